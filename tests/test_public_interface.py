"""What is public is declared in `__all__`, is documented, and is all that the documentation uses."""

import ast
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PUBLIC_MODULES = (
    "ops",
    "layers",
    "optimizers",
    "models",
    "data",
    "training",
    "evaluation",
    "export",
    "analysis",
    "visualization",
)
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py")])


class Use(NamedTuple):
    """The name `name` of the module `tf_dcnv2.{module}` on a page of the documentation."""

    page: str
    module: str
    name: str


def uses_on(page: Path) -> list[Use]:
    """What a page imports from the package's modules, or names by its full name."""
    text = page.read_text()
    found = re.findall(r"\btf_dcnv2\.(\w+)\.(\w+)", text)
    for module, names in re.findall(r"^ *from tf_dcnv2\.([\w.]+) import (.+|\([^)]+\))$", text, re.MULTILINE):
        found += [(module, name.split(" as ")[0]) for name in re.findall(r"\w+(?: as \w+)?", names)]
    return [Use(page.name, module, name) for module, name in found]


USES = sorted({use for page in PAGES for use in uses_on(page) if use.module.split(".")[0] in PUBLIC_MODULES})


def public_module(name: str) -> ModuleType:
    return importlib.import_module(f"tf_dcnv2.{name}")


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_a_public_module_declares_names_that_exist_and_are_documented(name):
    module = public_module(name)
    assert sorted(module.__all__) == sorted(set(module.__all__)) and module.__doc__
    for public_name in module.__all__:
        value = getattr(module, public_name)
        assert not callable(value) or value.__doc__, f"tf_dcnv2.{name}.{public_name} has no docstring"


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_a_public_module_defines_and_imports_nothing_public_that_it_does_not_declare(name):
    module = public_module(name)
    tree = ast.parse(Path(module.__file__).read_text())
    nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    names = {node.name for node in nodes if not node.name.startswith("_")}
    if module.__file__.endswith("__init__.py"):  # which imports in order to export
        imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        names |= {alias.asname or alias.name for node in imports for alias in node.names}
        names = {name for name in names if not isinstance(getattr(module, name), ModuleType)}
    assert names <= set(module.__all__)


@pytest.mark.parametrize("use", USES, ids="{0.page}-{0.module}.{0.name}".format)
def test_what_the_documentation_uses_is_exported_by_a_public_module(use):
    assert use.module in PUBLIC_MODULES, f"{use.page} imports {use.name} from the private tf_dcnv2.{use.module}"
    assert use.name in public_module(use.module).__all__


def test_the_documentation_is_read():
    """Guards the tests above against a pattern that finds nothing."""
    assert {Use("README.md", "data", "load_records"), Use("README.md", "ops", "deform_conv2d")} <= set(USES)
    assert {use.module for use in USES} >= {"ops", "layers", "data", "evaluation", "export", "optimizers"}
