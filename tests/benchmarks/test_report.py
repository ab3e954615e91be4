import pytest

from benchmarks.report import (
    Table,
    as_markdown,
    as_text,
    cell,
    goals_table,
    megabytes,
    ratio_cell,
    significant,
    spread,
    times_table,
    write_files,
)
from benchmarks.results import Goal, Group
from benchmarks.timing import Series

GROUPS = [
    Group("forward", "small", {"ours": Series((0.001, 0.002, 0.003)), "theirs": Series((0.5,))}),
    Group("forward", "large", {"ours": Series((0.01,))}, {"theirs": "not installed"}),
]


def test_a_table_of_times_has_contenders_as_rows_and_cases_as_columns():
    table = times_table("Forward", GROUPS)
    assert table == Table(
        "Forward, ms: median (quartiles)",
        ["", "small", "large"],
        [["ours", "2.00 (1.50-2.50)", "10.0 (10.0-10.0)"], ["theirs", "500 (500-500)", "not installed"]],
    )


def test_a_table_as_text_is_aligned():
    assert as_text(Table("Title", ["", "a"], [["long name", "1"], ["b", "22"]])) == (
        "Title\n             a\n  long name  1\n  b          22"
    )


def test_a_table_as_markdown_is_one_that_renders():
    assert as_markdown(Table("Title", ["", "a", ""], [["b", "1", "c"]])).splitlines() == [
        "**Title**",
        "",
        "| | a | |",
        "| --- | --- | --- |",
        "| b | 1 | c |",
    ]


def test_goals_are_shown_with_what_was_reached_and_a_verdict():
    goals = [Goal("time", "small", 1.1504, 1.15), Goal("speed", "small", 3.25, 3.0, at_least=True)]
    assert goals_table(goals).rows == [
        ["time", "small", "1.150", "at most 1.15", "missed"],
        ["speed", "small", "3.250", "at least 3", "met"],
    ]


@pytest.mark.parametrize(("value", "text"), [(0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1234")])
def test_numbers_have_about_three_digits(value, text):
    assert significant(value) == text


def test_a_spread_is_the_median_with_the_quartiles():
    assert spread(Series((0.1, 0.2, 0.3, 0.4, 0.5))) == "300 (200-400)"


def test_a_cell_shows_times_or_why_there_are_none():
    small, large = GROUPS
    assert cell(small, "theirs") == "500 (500-500)"
    assert cell(small, "theirs", lambda series: f"{series.median} s") == "0.5 s"
    assert (cell(large, "theirs"), cell(large, "nobody")) == ("not installed", "-")


def test_a_ratio_needs_both_contenders():
    twice = Group("forward", "small", {"ours": Series((0.2, 0.4)), "theirs": Series((0.4, 0.8))})
    assert ratio_cell(twice, "theirs", "ours") == "2.00"
    assert ratio_cell(twice, "ours", "theirs") == "0.50"
    assert ratio_cell(twice, "ours", "nobody") == "-"


def test_memory_is_in_megabytes_or_unknown():
    assert (megabytes(12_340_000), megabytes(None)) == ("12.3", "-")


def test_files_are_written_into_a_new_folder_and_over_older_ones(tmp_path):
    folder = tmp_path / "new" / "folder"
    for text in ("old", "new"):
        write_files(folder, {"results.md": text, "picture.png": b"\x89"})
    assert (folder / "results.md").read_text() == "new"
    assert {path.name for path in folder.iterdir()} == {"results.md", "picture.png"}
