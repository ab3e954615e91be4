"""Interleaved measurement: contenders take turns, so that a drifting clock or a busy neighbour hits all alike."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Stopwatch = Callable[[], float]
Key = TypeVar("Key", bound=Hashable)

_LEAST_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Series:
    """Seconds of one contender, round by round; None in the rounds that it sat out."""

    rounds: tuple[float | None, ...]

    @property
    def seconds(self) -> list[float]:
        """The measured rounds."""
        return [seconds for seconds in self.rounds if seconds is not None]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper one."""
        seconds = self.seconds
        if len(seconds) == 1:
            return seconds[0], seconds[0]
        lower, _, upper = statistics.quantiles(seconds, n=4, method="inclusive")
        return lower, upper


def stopwatch(function: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Stopwatch:
    """A function that calls `function` and returns the seconds it took."""

    def seconds() -> float:
        start = clock()
        function()
        return clock() - start

    return seconds


def measure(stopwatches: Mapping[Key, Stopwatch], rounds: int, *, budget_s: float = 20.0) -> dict[Key, Series]:
    """Lets every contender run once a round, in an order that is reversed from round to round.

    Two runs before the first round warm up and are not counted. A contender of which all rounds would take longer than
    `budget_s` takes part in fewer of them, evenly spread, but in at least three.

    Args:
        stopwatches: by contender, a function that runs it once and returns the seconds this took.
        rounds: at least 1.
        budget_s: seconds that one contender may take in all.

    Raises:
        ValueError: `rounds` is not positive.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1. Received: rounds={rounds}.")
    for watch in stopwatches.values():
        watch()
    turns = {name: _turns(watch(), rounds, budget_s) for name, watch in stopwatches.items()}
    taken: dict[Key, list[float | None]] = {name: [None] * rounds for name in stopwatches}
    order = list(stopwatches)
    for index in range(rounds):
        for name in order:
            if _takes_part(index, turns[name], rounds):
                taken[name][index] = stopwatches[name]()
        order.reverse()
    return {name: Series(tuple(seconds)) for name, seconds in taken.items()}


def ratio(numerator: Series, denominator: Series) -> float:
    """The median of the ratios of the rounds in which both took part."""
    pairs = zip(numerator.rounds, denominator.rounds, strict=True)
    return statistics.median(a / b for a, b in pairs if a is not None and b is not None)


def _turns(seconds: float, rounds: int, budget_s: float) -> int:
    affordable = int(budget_s / seconds) if seconds > 0 else rounds
    return min(rounds, max(_LEAST_ROUNDS, affordable))


def _takes_part(index: int, turns: int, rounds: int) -> bool:
    return (index * turns) // rounds != ((index + 1) * turns) // rounds
