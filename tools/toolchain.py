"""How the C++ and CUDA sources are compiled: the flags of every file, and builds that redo only what changed.

The flags that Bazel shares stand in cc/flags.bzl. setup.py builds the op library with this module, kernel_tests.py the
C++ tests. Needs nothing but the standard library. With DCNV2_WERROR=1 in the environment a warning is an error.
"""

import contextlib
import fcntl
import functools
import os
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_FLAGS = runpy.run_path(str(ROOT / "cc" / "flags.bzl"))

WARNINGS_ARE_ERRORS = os.environ.get("DCNV2_WERROR", "0") not in ("", "0")
LANGUAGE_FLAGS = [*_FLAGS["CXX_FLAGS"], f"-I{ROOT}"]
WARNING_FLAGS = [*_FLAGS["WARNING_FLAGS"], *(["-Werror"] if WARNINGS_ARE_ERRORS else [])]
COMMON_FLAGS = [*LANGUAGE_FLAGS, "-fPIC", *WARNING_FLAGS]
# nvcc has warnings of its own, and passes on what the host's compiler is to be told.
CUDA_FLAGS = [
    *LANGUAGE_FLAGS,
    f"-Xcompiler={','.join(['-fPIC', *WARNING_FLAGS])}",
    *(["-Werror=all-warnings"] if WARNINGS_ARE_ERRORS else []),
]
INSTRUCTION_SET_FLAGS = {f"{name}.cc": flags for name, flags in _FLAGS["INSTRUCTION_SET_FLAGS"].items()}
INSTRUCTION_SETS = tuple(_FLAGS["INSTRUCTION_SETS"])


class BuildError(SystemExit):
    """Ends the build with a message instead of a traceback."""

    def __init__(self, message: str):
        super().__init__(f"\ntf-dcnv2: {message}\n")
        self.message = message


def sources(*folders: str) -> list[str]:
    """Paths of the C++ sources below `folders` that need no CUDA, relative to the root, sorted."""
    return [path for path in _find(folders, ".cc") if not path.endswith("_gpu.cc")]


def cuda_sources(*folders: str) -> list[str]:
    """Likewise, of what only a build with CUDA has: kernels for nvcc, and the C++ that calls them."""
    return _find(folders, ".cu") + _find(folders, "_gpu.cc")


def _find(folders: Iterable[str], ending: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob(f"*{ending}"))


def find_compiler() -> list[str]:
    """The command line of a C++ compiler: $CXX, or the first usual one on the path."""
    candidates = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "c++", "clang++"]
    for candidate in candidates:
        command = shlex.split(candidate)
        if shutil.which(command[0]):
            return command
    raise BuildError(
        f"no C++ compiler found (looked for {', '.join(candidates)}). The custom ops need one that knows C++17, for "
        "example GCC 9 or newer. Install it with `apt-get install g++`, `dnf install gcc-c++` or `conda install gxx`, "
        "or set CXX to its path, and repeat the command."
    )


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Waits for other processes that build in the directory, such as those of a parallel test run. Makes it."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Builder:
    """Compiles and links in a directory that outlives the command; what is up to date there stays as it is.

    `cuda_compiler` is the command for .cu files, of which a builder without has none. `compiler` is the one for C++, by
    default `find_compiler()`; it may compile for another machine than this one.
    """

    jobs = min(2, os.cpu_count() or 1)

    def __init__(self, directory: Path, cuda_compiler: Sequence[str] = (), compiler: Sequence[str] = ()):
        self.directory = directory
        self.compiler = list(compiler) or find_compiler()
        self.cuda_compiler = list(cuda_compiler)
        directory.mkdir(parents=True, exist_ok=True)

    def compile(self, files: Iterable[str], extra_flags: Sequence[str] = ()) -> list[Path]:
        """Compiles `files`, `jobs` at a time, and returns their objects in the same order."""
        with alone_in(self.directory), ThreadPoolExecutor(max_workers=self.jobs) as pool:
            return list(pool.map(lambda source: self._compile(source, extra_flags), files))

    def link(self, name: str, objects: Sequence[Path], flags: Sequence[str]) -> Path:
        """Links `objects` to a file of the directory, flags last, and returns its path."""
        target = self.directory / name
        shared = ["-shared"] if target.suffix == ".so" else []
        command = [*self.compiler, *shared, *map(str, objects), "-o", str(target), *flags]
        with alone_in(self.directory):
            if self._is_stale(target, objects, command):
                self._run(command)
                self._record(target, command)
        return target

    def compiler_version(self) -> str:
        """The first line of what the compiler says about itself."""
        done = subprocess.run([*self.compiler, "--version"], capture_output=True, text=True)
        return done.stdout.splitlines()[0] if done.stdout else shlex.join(self.compiler)

    def flags_of(self, source: str) -> list[str]:
        """The flags that every build of `source` needs."""
        name = Path(source).name
        if name.endswith(".cu"):
            return CUDA_FLAGS
        if name not in INSTRUCTION_SET_FLAGS:
            return COMMON_FLAGS
        return [*COMMON_FLAGS, *_FLAGS["SIMD_FLAGS"], *(INSTRUCTION_SET_FLAGS[name] if self._targets_x86 else [])]

    @functools.cached_property
    def _targets_x86(self) -> bool:
        """Whether the compiler makes code for x86-64, on whatever machine it runs."""
        done = subprocess.run([*self.compiler, "-dumpmachine"], capture_output=True, text=True)
        return done.stdout.startswith(("x86_64", "amd64"))

    def _compile(self, source: str, extra_flags: Sequence[str]) -> Path:
        target = self.directory / (source.replace("/", "-") + ".o")
        compiler = self.cuda_compiler if source.endswith(".cu") else self.compiler
        command = [*compiler, *self.flags_of(source), *extra_flags, "-MMD", "-c", source, "-o", str(target)]
        if self._is_stale(target, self._dependencies(target), command):
            sys.stdout.write(f"compiling {source}\n")
            self._run(command)
            self._record(target, command)
        return target

    @staticmethod
    def _run(command: Sequence[str]) -> None:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        sys.stderr.write(done.stderr)
        if done.returncode != 0:
            raise BuildError(f"the compiler failed: {shlex.join(command)}\n{done.stderr[-4000:]}")

    @staticmethod
    def _dependencies(target: Path) -> list[Path]:
        """Project files that the last compilation read."""
        makefile = target.with_suffix(".d")
        if not makefile.exists():
            return []
        words = makefile.read_text().replace("\\\n", " ").partition(":")[2].split()
        own = [ROOT / "cc", ROOT / "tests"]
        paths = [Path(word) for word in words]
        return [ROOT / path for path in paths if not path.is_absolute() or any(map(path.is_relative_to, own))]

    @staticmethod
    def _is_stale(target: Path, inputs: Sequence[Path], command: Sequence[str]) -> bool:
        record = target.with_suffix(target.suffix + ".command")
        if not target.exists() or not record.exists() or record.read_text() != shlex.join(command):
            return True
        built = target.stat().st_mtime
        return any(not path.exists() or path.stat().st_mtime > built for path in inputs)

    @staticmethod
    def _record(target: Path, command: Sequence[str]) -> None:
        target.with_suffix(target.suffix + ".command").write_text(shlex.join(command))
