"""Which part of the package may import which, from the import statements of its files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tf_dcnv2"

# What each part may import beside itself. The command line, a package of its own, may import everything.
ALLOWED = {
    "ops": {"_keras_backend"},
    "layers": {"_core", "ops", "_keras_backend"},
    "optimizers.py": set(),
    "models": {"_core", "ops", "layers", "optimizers", "data"},
    "evaluation": {"_core", "data"},
    "export": {"_core", "ops", "models", "data"},
    "analysis": {"_core", "ops", "layers", "data", "models"},
    "training": {"_core", "ops", "layers", "optimizers", "data", "models", "evaluation", "analysis", "visualization"},
    "visualization": {"_core", "fonts", "analysis", "evaluation"},
    # Drawing is apart from computing: it takes arrays.
    "visualization/drawing.py": set(),
    "visualization/figures.py": {"_core", "fonts", "visualization.drawing"},
    "_core": set(),
    "data": {"_core", "__version__"},
    "data/findings.py": {"_core"},
    "data/images": {"_core", "data.findings"},
    "data/records": {"_core", "data.images"},
    "data/coco": {"_core", "data.findings", "data.images"},
    "data/conversion": {
        "_core",
        "__version__",
        "data.findings",
        "data.images",
        "data.records",
        "data.coco",
        "data.layouts",
    },
    "data/layouts": {"_core", "data.findings", "data.images", "data.coco"},
    "data/inspection": {"_core", "data.findings", "data.images", "data.records"},
    "data/synthetic": {"_core"},
}


def imported(file: Path) -> Iterator[str]:
    """Names of this package's modules that a file imports, within functions too, without `tf_dcnv2.`."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.removeprefix("tf_dcnv2.") for name in names if name.startswith("tf_dcnv2"))


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_lies_below_it(part):
    path = PACKAGE / part
    own = part.removesuffix(".py").replace("/", ".")
    files = [path] if path.is_file() else list(path.rglob("*.py"))
    assert files
    for file in files:
        for name in imported(file):
            assert any(f"{name}.".startswith(f"{other}.") for other in {own, *ALLOWED[part]}), f"{file}: {name}"


def test_every_room_of_the_data_package_has_a_rule():
    rooms = {f"data/{path.parent.name}" for path in (PACKAGE / "data").glob("*/__init__.py")}
    assert rooms <= ALLOWED.keys()


def modules() -> dict[str, set[str]]:
    """The modules of the package, and which of the others each imports."""
    files = {file: ".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in PACKAGE.rglob("*.py")}
    names = {name.removesuffix(".__init__"): file for file, name in files.items()}

    def module_of(name: str) -> str | None:
        """The module that `name` is, or is in."""
        while name and name not in names:
            name = name.rpartition(".")[0]
        return name or None

    return {name: {module_of(other) for other in imported(file)} - {name, None} for name, file in names.items()}


def test_no_module_imports_itself_by_way_of_others():
    graph = modules()
    assert len(graph) > 100
    while leaves := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in leaves:
            del graph[name]
    # What is left is in a circle, or imports one.
    assert not graph
