"""Statistics of two models judged on the same documents: only a paired test is sharp enough."""

from typing import NamedTuple

import numpy as np
import scipy  # whose parts load when they are used: a kernel starts without them
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 9999


class Flips(NamedTuple):
    """Documents that only the reference got right, only the candidate did, and the p-value of both.

    `p` is exact and two-sided (McNemar 1947): under no difference each flip is a fair coin.
    """

    lost: int
    won: int
    p: float


class Interval(NamedTuple):
    """Bounds of a confidence interval."""

    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside."""
        return not self.low <= value <= self.high


def mcnemar(reference: ArrayLike, candidate: ArrayLike) -> Flips:
    """Count the flips between two runs, bool [n] each, and how likely chance makes as uneven ones.

    Raises ValueError where the lengths differ.
    """
    before, after = np.asarray(reference, bool), np.asarray(candidate, bool)
    _same_length(before, after)
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    p = scipy.stats.binomtest(won, lost + won).pvalue if lost + won else 1.0
    return Flips(lost, won, float(p))


def bootstrap_difference(
    reference: ArrayLike,
    candidate: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of mean(candidate - reference) over documents [n], by resampling them in pairs.

    With `weights` [n], such as tokens, the means are weighted. Bias-corrected and accelerated
    (Efron 1987); of zero width where every difference is the same. Raises ValueError where the
    lengths differ or there are fewer than two documents.
    """
    first, second = np.asarray(reference, float), np.asarray(candidate, float)
    _same_length(first, second)
    share = np.ones_like(first) if weights is None else np.asarray(weights, float)
    _same_length(first, share)
    if len(first) < 2:
        raise ValueError(f"{len(first)} documents: an interval needs at least two")
    difference = second - first
    if np.ptp(difference) == 0:
        return Interval(float(difference[0]), float(difference[0]))

    def mean(total: NDArray, weight: NDArray, axis: int = -1) -> NDArray:
        return total.sum(axis) / weight.sum(axis)

    found = scipy.stats.bootstrap(
        (difference * share, share),
        mean,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, 4_000_000 // len(first)),  # bounds the memory of the resamples
        confidence_level=level,
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return Interval(float(low), float(high))


def adjusted(p_values: ArrayLike) -> list[float]:
    """p-values that keep the share of false discoveries among several tests (Benjamini 1995)."""
    values = np.asarray(p_values, float)
    return scipy.stats.false_discovery_control(values).tolist() if len(values) else []


def _same_length(first: NDArray, second: NDArray) -> None:
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"not the same documents: {first.shape} and {second.shape}")
