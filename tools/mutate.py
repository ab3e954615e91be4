"""Plants faults of one line in the package, one at a time, and lists those that no test beside it notices.

    python tools/mutate.py --count 20            # a random sample of the whole package
    python tools/mutate.py --only models/rpn     # of some modules

A fault is a changed operator, number (the next integer, twice a float), truth value or keyword argument, a condition
turned round, or a statement left out. Each is planted in a copy of the repository, where the tests of the same folder
run, first those that mention something the module, or one that imports it, defines; a fault is noticed if one of them
fails or does not end. What lives is either equivalent to the original or a test that is missing. The sample is the same
for the same --seed and source.
"""

import argparse
import ast
import copy
import importlib
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ops", "layers", "models", "data", "training", "evaluation", "export")
IMPORTED_ONCE = ("tensorflow", "keras", "official.vision.ops.box_ops", "pycocotools.mask", "hypothesis")
NEEDED = (
    "tf_dcnv2",
    "tf_dcnv2_cli",
    "tests",
    "cc",
    "tools",
    "benchmarks",
    "examples",
    "pyproject.toml",
    "Makefile",
    "README.md",
)

_SWAPS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
# What only people read.
_UNTESTED = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)


class Mutant(NamedTuple):
    """A fault: the file's text from `start` to `end` is replaced."""

    path: str  # relative to the root
    line: int
    start: int
    end: int
    original: str
    replacement: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {' '.join(self.original.split())}  ->  {' '.join(self.replacement.split())}"

    def planted_in(self, source: str) -> str:
        """The source with the fault."""
        return source[: self.start] + self.replacement + source[self.end :]


def mutants(path: str, source: str) -> Iterator[Mutant]:
    """Every fault that can be planted in a module, in reading order."""
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line.encode()))
    encoded = source.encode()

    def position(line: int, column: int) -> int:
        return len(encoded[: lines[line - 1] + column].decode())

    for node, replacements in _faults(ast.parse(source)):
        start = position(node.lineno, node.col_offset)
        end = position(node.end_lineno, node.end_col_offset)
        for replacement in replacements:
            yield Mutant(path, node.lineno, start, end, source[start:end], replacement)


def _faults(node: ast.AST) -> Iterator[tuple[ast.AST, list[str]]]:
    """Nodes below `node`, each with the texts that could stand in its place."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, _UNTESTED):
                continue
            replacements = _replacements(child)
            if replacements and hasattr(child, "lineno"):
                yield child, replacements
            yield from _faults(child)


def _replacements(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _SWAPS:
        return [_changed(node, ops=[_SWAPS[type(node.ops[0])]()])]
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in _SWAPS and not _is_type_union(node):
        return [_changed(node, op=_SWAPS[type(node.op)]())]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        return [f"({ast.unparse(node.operand)})"]
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return [str(not node.value)]
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return [f"({ast.unparse(node)} + 1)"]
    if isinstance(node, ast.Constant) and isinstance(node.value, float):
        return [f"({ast.unparse(node)} * 2)" if node.value else "1.0"]
    if isinstance(node, ast.IfExp):
        return [_changed(node, body=node.orelse, orelse=node.body)]
    if isinstance(node, ast.Call) and any(keyword.arg for keyword in node.keywords):
        rests = [[other for other in node.keywords if other is not one] for one in node.keywords if one.arg]
        return [_changed(node, keywords=rest) for rest in rests]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ["pass"]
    return []


def _is_type_union(node: ast.AST) -> bool:
    """Whether `a | b` is one of types, whose names are built in or begin with a capital."""
    if not isinstance(node.op, ast.BitOr):
        return False
    last = ast.unparse(node.right).split("[")[0].split(".")[-1]
    return last in ("None", "str", "int", "float", "bool", "bytes", "list", "tuple", "dict") or last[0].isupper()


def _changed(node: ast.AST, **fields: object) -> str:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return f"({ast.unparse(changed)})"


def tests_beside(module: Path, root: Path = ROOT) -> list[Path]:
    """Test files of the module's folder, those first that are most likely to notice a fault in it.

    Those of `data` are in tests/data and in tests/wild.
    """
    package = root / "tf_dcnv2" / module.relative_to(root / "tf_dcnv2").parts[0]
    imports = re.compile(rf"^\s*(from|import) .*\b{module.stem}\b", re.MULTILINE)
    importers = [path for path in package.rglob("*.py") if imports.search(path.read_text())]
    own, others = _public_names(module), set().union(*map(_public_names, importers))
    folders = [package.name, "wild"] if package.name == "data" else [package.name]
    files = sorted(path for folder in folders for path in (root / "tests" / folder).rglob("test_*.py"))
    words = {file: set(re.findall(r"\w+", file.read_text())) for file in files}
    # The file named after the module, then those that mention most of what it, and what imports it, defines.
    return sorted(
        files,
        key=lambda file: (module.stem.strip("_") not in file.stem, -len(words[file] & own), -len(words[file] & others)),
    )


def _public_names(module: Path) -> set[str]:
    nodes = ast.walk(ast.parse(module.read_text()))
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name for name in names if not name.startswith("_")} | {module.stem}


class Workshop:
    """A copy of the repository to plant faults in."""

    def __init__(self, folder: Path, timeout: float):
        self.folder, self._timeout = folder, timeout
        self._sound: set[str] = set()  # tests that pass without a fault
        for name in NEEDED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy2(source, folder / name)

    def failure(self, tests: Iterable[Path | str]) -> str | None:
        """The first test that fails, None if all pass; the empty text if they did not end, in time or at all."""
        receiver, sender = os.pipe()
        child = os.fork()
        if child == 0:
            self._run(tests, sender)
        os.close(sender)
        with open(receiver) as failures:
            deadline = time.monotonic() + self._timeout
            while time.monotonic() < deadline:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    return None if status == 0 else failures.readline().strip()
                time.sleep(0.05)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return ""

    def _run(self, tests: Iterable[Path | str], failures: int) -> NoReturn:
        """In a process of its own, and of its group what the tests start."""
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        os.chdir(self.folder)
        os.environ.update(PYTHONPATH=str(self.folder), PYTHONDONTWRITEBYTECODE="1")
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(self.folder))
        status = 1
        try:
            options = ["-x", "-q", "-p", "no:cacheprovider"]
            status = pytest.main([*options, *map(str, tests)], plugins=[_FailureReport(failures)])
        finally:
            os._exit(0 if status == pytest.ExitCode.NO_TESTS_COLLECTED else status)

    def survives(self, mutant: Mutant) -> bool:
        """Plants the fault, runs the tests beside it, and takes it out.

        Raises:
            RuntimeError: the test that fails does so without the fault as well.
        """
        module = self.folder / mutant.path
        source = module.read_text()
        tests = tests_beside(module, self.folder)
        try:
            module.write_text(mutant.planted_in(source))
            failed = self.failure(tests)
        finally:
            module.write_text(source)
        if failed and failed not in self._sound:
            if self.failure([failed]) is not None:
                raise RuntimeError(f"{failed} fails in a copy of the repository without any fault")
            self._sound.add(failed)
        return failed is None


class _FailureReport:
    """A plugin that writes which tests fail, a line each, to a file descriptor."""

    def __init__(self, stream: int):
        self._stream = stream

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os.write(self._stream, f"{report.nodeid}\n".encode())

    pytest_collectreport = pytest_runtest_logreport


def verdicts(sample: list[Mutant], jobs: int, timeout: float) -> Iterator[tuple[Mutant, bool]]:
    """Each fault and whether it survives, as they become known."""
    # Imported once: what tests import takes longer than most of them, unless they are forked from here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for module in IMPORTED_ONCE:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        context = multiprocessing.get_context("fork")
        with context.Pool(jobs, _open_workshop, (folder, timeout)) as pool:
            yield from pool.imap_unordered(_verdict, sample)


def _open_workshop(folder: str, timeout: float) -> None:
    global _workshop
    _workshop = Workshop(Path(tempfile.mkdtemp(dir=folder)), timeout)


def _verdict(mutant: Mutant) -> tuple[Mutant, bool]:
    return mutant, _workshop.survives(mutant)


def candidates(only: list[str]) -> list[Mutant]:
    """The faults of all modules, or of those whose path contains one of `only`."""
    modules = [path for package in PACKAGES for path in sorted((ROOT / "tf_dcnv2" / package).rglob("*.py"))]
    chosen = [path for path in modules if not only or any(part in path.as_posix() for part in only)]
    return [mutant for path in chosen for mutant in mutants(str(path.relative_to(ROOT)), path.read_text())]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="how many faults (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="which sample (default: 0)")
    parser.add_argument("--only", nargs="*", default=[], metavar="PART", help="only modules whose path contains a PART")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default: 2)")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for the tests of a fault (default: 900)")
    parser.add_argument("--list", action="store_true", help="show the sample and run nothing")
    arguments = parser.parse_args(argv)

    found = candidates(arguments.only)
    sample = random.Random(arguments.seed).sample(found, min(arguments.count, len(found)))
    print(f"{len(sample)} of {len(found)} possible faults", flush=True)
    if arguments.list:
        print(*sample, sep="\n")
        return 0
    alive, start = [], time.monotonic()
    for number, (mutant, lives) in enumerate(verdicts(sample, arguments.jobs, arguments.timeout), start=1):
        alive += [mutant] if lives else []
        minutes = (time.monotonic() - start) / 60
        verdict = "LIVES " if lives else "killed"
        print(f"{number:4}/{len(sample)}  {minutes:6.1f} min  {verdict}  {mutant}", flush=True)
    killed = len(sample) - len(alive)
    print(
        f"{killed} of {len(sample)} faults were noticed, in {(time.monotonic() - start) / 60:.0f} minutes", flush=True
    )
    if alive:
        print("not noticed, so equivalent or without a test:", *alive, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
