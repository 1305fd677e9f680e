"""One figure out of several timings, and whether the machine was quiet while they were taken."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict


class Timing(BaseModel):
    """The median of `runs` timings in milliseconds, with the quartiles as its spread.

    `samples` are the timings themselves, in the order in which they were taken.
    """

    model_config = ConfigDict(frozen=True)
    median: float
    low: float
    high: float
    runs: int
    samples: tuple[float, ...] = ()

    @property
    def drift(self) -> float | None:
        """By how much the medians of odd and even runs differ, as a share; None of too few runs.

        Nothing changed between them but the machine: a difference between two models that is no
        greater means nothing.
        """
        if len(self.samples) < 4:
            return None
        odd, even = statistics.median(self.samples[::2]), statistics.median(self.samples[1::2])
        return abs(odd / even - 1)

    @classmethod
    def of(cls, milliseconds: list[float]) -> "Timing":
        """Summarise at least two timings."""
        low, median, high = statistics.quantiles(milliseconds, n=4, method="inclusive")
        return cls(
            median=median,
            low=low,
            high=high,
            runs=len(milliseconds),
            samples=tuple(milliseconds),
        )


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """The milliseconds that `work` took, and its result."""
    start = time.perf_counter()
    result = work()
    return 1e3 * (time.perf_counter() - start), result
