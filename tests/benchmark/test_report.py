import pytest

from tf_dcnv2.benchmark.report import as_markdown, as_text, goals_table
from tf_dcnv2.benchmark.results import Goal, Group, Table, significant, spread, times_table
from tf_dcnv2.benchmark.timing import Series

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
