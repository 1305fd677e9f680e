"""Time many things in turns, so that whatever disturbs the machine disturbs all of them alike."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from workbench.garbage import uncollected
from workbench.progress import track

TURN_MS = 4.0  # a fast contender gets as many calls as fill its turn
MOST_CALLS = 32
MOST_ROUNDS = 400
SETTLE_S = 0.004  # idle threads of the engine before spin a few ms before they sleep


class Timing(BaseModel):
    """Milliseconds of `runs` calls: median, least, and the quartiles as spread.

    `drift` is by how much the medians of the odd and of the even rounds differ, as a share: what a
    difference must exceed to mean anything.
    """

    model_config = ConfigDict(frozen=True)
    ms_median: float
    ms_min: float
    ms_low: float
    ms_high: float
    runs: int
    drift: float


def race(
    contenders: Mapping[str, Sequence[Callable[[], Any]]],
    seconds: float,
    what: str,
    least_rounds: int = 5,
) -> dict[str, Timing]:
    """Time contenders in turns for about `seconds`, at least `least_rounds` (2 or more) rounds.

    A contender is a list of calls that do the same on different memory and are taken in a circle;
    one call means warm caches, for each turn begins with a round of calls that are not timed:
    memory that was idle for long may have been taken away from a virtual machine.
    """
    circles = {name: itertools.cycle(calls) for name, calls in contenders.items()}
    for calls in contenders.values():
        for call in calls:  # whatever a first call prepares
            call()
    estimates = {
        name: min(_milliseconds(next(circle)) for _ in range(3)) for name, circle in circles.items()
    }
    turns = {
        name: max(1, min(MOST_CALLS, round(TURN_MS / max(estimate, 1e-6))))
        for name, estimate in estimates.items()
    }
    round_s = sum(
        estimates[name] / 1e3 * (turns[name] + len(calls)) + SETTLE_S
        for name, calls in contenders.items()
    )
    rounds = max(least_rounds, min(MOST_ROUNDS, int(seconds / round_s)))
    halves: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contenders}
    order = list(contenders)
    with uncollected():
        for index in track(range(rounds), what):
            for name in order:
                untimed = len(contenders[name])
                halves[name][index % 2].extend(_turn(circles[name], untimed, turns[name]))
            order.reverse()  # so that nobody always follows the same one
    return {name: _timing(*halves[name]) for name in contenders}


def _turn(circle: Iterator[Callable[[], Any]], untimed: int, calls: int) -> list[float]:
    time.sleep(SETTLE_S)
    for _ in range(untimed):
        next(circle)()
    return [_milliseconds(next(circle)) for _ in range(calls)]


def _milliseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def _timing(even: list[float], odd: list[float]) -> Timing:
    taken = even + odd
    low, median, high = statistics.quantiles(taken, n=4, method="inclusive")
    return Timing(
        ms_median=median,
        ms_min=min(taken),
        ms_low=low,
        ms_high=high,
        runs=len(taken),
        drift=abs(statistics.median(even) / statistics.median(odd) - 1),
    )
