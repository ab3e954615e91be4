import pytest

from benchmarks.results import Goal, Group, speed_goal, time_goal
from benchmarks.timing import Series


def group(times: dict[str, float], **fields) -> Group:
    return Group("forward", "a case", {name: Series((seconds,)) for name, seconds in times.items()}, **fields)


@pytest.mark.parametrize(
    ("value", "at_least", "met"), [(1.15, False, True), (1.151, False, False), (3.0, True, True), (2.99, True, False)]
)
def test_a_bound_itself_is_met_and_what_is_beyond_it_is_missed(value, at_least, met):
    assert Goal("speed", "a case", value, 3.0 if at_least else 1.15, at_least).met is met


def test_a_time_goal_divides_our_time_by_theirs_and_a_speed_goal_theirs_by_ours():
    times = group({"ours": 2.0, "theirs": 8.0})
    (time,) = time_goal("time", "a case", times, "ours", "theirs", 1.0)
    (speed,) = speed_goal("speed", "a case", times, "ours", "theirs", 3.0)
    assert (time.value, time.met, speed.value, speed.met) == (0.25, True, 4.0, True)


def test_there_is_no_goal_against_a_contender_that_is_absent():
    times = group({"ours": 2.0}, absent={"theirs": "not installed"})
    assert time_goal("time", "a case", times, "ours", "theirs", 1.0) == []
    assert speed_goal("speed", "a case", times, "ours", "theirs", 1.0) == []


def test_a_group_as_plain_data_is_in_milliseconds():
    plain = Group("forward", "small", {"ours": Series((0.001, None, 0.003))}, {"theirs": "absent"}, "pixels", 60)
    assert plain.to_dict() == {
        "work": "forward",
        "case": "small",
        "milliseconds": {"ours": {"median": 2.0, "lower_quartile": 1.5, "upper_quartile": 2.5, "rounds": 2}},
        "absent": {"theirs": "absent"},
        "pixels": 60,
    }
