"""How the benchmarks of the command line measure: contenders take turns, so that a busy machine hits all alike."""

import time
from collections.abc import Callable, Mapping

# Returns when the result is there, also on a GPU.
Run = Callable[[], object]

_MOST_ROUNDS, _LEAST_ROUNDS, _SECONDS = 11, 3, 15.0


def take_turns(runs: Mapping[str, Run]) -> dict[str, list[float]]:
    """Seconds by contender, round by round, in an order that is reversed from round to round."""
    order = list(runs)
    for name in order:
        runs[name]()  # warms up
    seconds: dict[str, list[float]] = {name: [] for name in order}
    start = time.perf_counter()
    for done in range(_MOST_ROUNDS):
        if done >= _LEAST_ROUNDS and time.perf_counter() - start > _SECONDS:
            break
        for name in order:
            begin = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - begin)
        order.reverse()
    return seconds
