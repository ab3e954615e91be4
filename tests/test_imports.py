"""Which part of the package may import which, from the import statements of its files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tf_dcnv2"

# What each part may import beside itself.
ALLOWED = {
    "_core": set(),
    "data": {"_core"},
    "data/findings.py": {"_core"},
    "data/images": {"_core", "data.findings"},
    "data/records": {"_core", "data.images"},
    "data/coco": {"_core", "data.findings", "data.images", "data.records"},
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
