import re
import shlex
from pathlib import Path

import pytest

from tf_dcnv2.models.presets import preset_names
from tf_dcnv2_cli import main

PAGE = Path(__file__).parents[2] / "docs" / "presets.md"


def test_the_rows_of_the_papers_tables_are_listed_by_table(capsys):
    assert main(["presets"]) == 0
    tables = {}
    for table in capsys.readouterr().out.split("\n\n"):
        title, head, *rows = table.splitlines()
        assert head.split()[0] == "preset"
        tables[title.partition(":")[0]] = {row.split()[0] for row in rows}
    assert list(tables) == ["Table 1", "Table 2", "Table 3", "Table 4"]
    assert [len(names) for names in tables.values()] == [2 * 8, 2 * 8, 2 * 6, 2 * 3 * 3]
    assert tables["Table 2"] == {f"{name}_800" for name in tables["Table 1"]}
    assert "mask_rcnn_r50_mdconv_c3_c5_mdpool_mimic_all" in tables["Table 3"]
    assert "faster_rcnn_x101_64x4d_dcnv2" in tables["Table 4"]
    assert set().union(*tables.values()) <= set(preset_names())


def test_every_preset_is_listed_once_with_its_cost(capsys):
    assert main(["presets", "--all"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["preset", "parameters", "added", "GFLOPs", "added", "paper's", "AP"]
    assert [line.split()[0] for line in lines] == list(preset_names())
    assert all(re.match(r"\w+ +\d+\.\d M +(\+\d+\.\d% +)?\d+\.\d", line) for line in lines)


def test_a_filter_chooses_names_by_a_pattern(capsys):
    assert main(["presets", "--filter", "^mask_rcnn_r50_(regular|dcnv1)$"]) == 0
    regular, dcnv1 = capsys.readouterr().out.splitlines()[1:]
    assert re.fullmatch(r"mask_rcnn_r50_regular +\d+\.\d M +\d+\.\d +36\.6/32\.2", regular)
    assert re.fullmatch(r"mask_rcnn_r50_dcnv1 +\d+\.\d M +\+\d+\.\d% +\d+\.\d +\+\d+\.\d% +40\.4/35\.3", dcnv1)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("yolo", "no preset's name matches 'yolo'"), ("r50(", "'r50(' is no regular expression")],
)
def test_a_filter_that_finds_nothing_is_a_usage_error(pattern, expected, capsys):
    assert main(["presets", "--filter", pattern]) == 2
    assert expected in capsys.readouterr().err


def test_the_tables_of_the_documentation_are_what_the_command_prints(capsys):
    blocks = re.findall(r"```\n(tf-dcnv2 presets .*)\n```\n\n((?:\|.*\n)+)", PAGE.read_text())
    assert len(blocks) == 3
    for command, table in blocks:
        assert main(shlex.split(command)[1:]) == 0
        assert capsys.readouterr().out == table
