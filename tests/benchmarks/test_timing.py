import pytest

from benchmarks.timing import Series, measure, ratio, stopwatch


class Clock:
    """A clock that only moves when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_stopwatch_measures_the_call_and_nothing_else():
    clock = Clock()
    clock.now = 5.0

    def work():
        clock.now += 0.25

    watch = stopwatch(work, clock)
    clock.now += 3.0
    assert watch() == 0.25


def test_contenders_take_turns_in_an_order_that_is_reversed_every_round():
    calls = []

    def contender(name):
        def run() -> float:
            calls.append(name)
            return 1e-3

        return run

    measure({name: contender(name) for name in "abc"}, rounds=3)
    warm_up, rounds = calls[:6], calls[6:]
    assert warm_up == list("abcabc")
    assert rounds == list("abc" + "cba" + "abc")


def test_warming_up_is_not_counted():
    times = iter([100.0, 50.0, 1.0, 2.0, 3.0])
    series = measure({"a": lambda: next(times)}, rounds=3, budget_s=1000.0)["a"]
    assert series.rounds == (1.0, 2.0, 3.0)


def test_a_slow_contender_takes_part_in_fewer_rounds_spread_over_all():
    slow = measure({"slow": lambda: 5.0, "fast": lambda: 0.1}, rounds=20, budget_s=20.0)
    took_part = [index for index, seconds in enumerate(slow["slow"].rounds) if seconds is not None]
    assert took_part == [4, 9, 14, 19]
    assert len(slow["fast"].seconds) == 20


def test_however_slow_a_contender_is_it_runs_three_times():
    assert len(measure({"slow": lambda: 1e6}, rounds=20)["slow"].seconds) == 3


def test_a_single_round_is_enough():
    series = measure({"a": lambda: 2.0}, rounds=1)["a"]
    assert (series.median, series.quartiles) == (2.0, (2.0, 2.0))


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds must be at least 1. Received: rounds=0"):
        measure({"a": lambda: 1.0}, rounds=0)


def test_median_and_quartiles_leave_out_rounds_without_a_time():
    series = Series((4.0, None, 1.0, 2.0, None, 3.0, 5.0))
    assert series.median == 3.0
    assert series.quartiles == (2.0, 4.0)


def test_a_ratio_compares_times_of_the_same_round():
    # The machine slows down fourfold halfway, for both. The ratio of the medians would be 2.5.
    ours = Series((2.0, 2.0, 8.0, 8.0, 8.0))
    theirs = Series((1.0, 1.0, 4.0, 4.0, None))
    assert ratio(ours, theirs) == 2.0


def test_the_slowest_contenders_share_a_round():
    series = measure({"a": lambda: 5.0, "b": lambda: 1e6}, rounds=21, budget_s=20.0)
    assert ratio(series["b"], series["a"]) == 2e5
