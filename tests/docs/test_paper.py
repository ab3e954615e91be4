"""The map from the paper to the code: everything of the paper is in it, and every name in it exists."""

import re
import shlex
from pathlib import Path

import pytest

from tf_dcnv2.models.presets import preset_names

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text()
TESTS = re.findall(r"`(tests/[\w./]+)(?:::(\w+))?`", PAGE)
# Of the paper's text: everything with a number.
NUMBERED = [
    *("Eq. 1", "Eq. 2", "Eq. 3"),
    *("Table 1", "Table 2", "Table 3", "Table 4"),
    *("Figure 1", "Figure 2", "Figure 3"),
]
SECTIONS = ["3", "3.3", "4.1", "4.2", "4.3", "5.1", "5.2", "5.3", "5.4", "appendix"]


@pytest.mark.parametrize("name", NUMBERED)
def test_every_equation_table_and_figure_is_on_the_map(name):
    assert re.search(rf"^(\| |\*\*){re.escape(name)}\b", PAGE, re.MULTILINE)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_about_the_method_is_on_the_map(section):
    assert re.search(rf"^\| {re.escape(section)}(,| \|)", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("file", "name"), sorted(set(TESTS)))
def test_the_tests_that_the_map_names_exist(file, name):
    assert (ROOT / file).is_file()
    assert not name or re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_the_map_names_a_test_or_a_command_for_most_of_the_paper():
    """Guards the test above against a pattern that finds nothing."""
    assert len(set(TESTS)) > 25


def test_the_filters_on_the_map_find_presets():
    filters = [shlex.split(command)[-1] for command in re.findall(r"`(tf-dcnv2 presets --filter [^`]+)`", PAGE)]
    assert len(filters) == 3
    for pattern in filters:
        assert any(re.search(pattern, name) for name in preset_names()), pattern
