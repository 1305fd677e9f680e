"""What one pass keeps of a tensor, and how two passes become one."""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from workbench.observe.places import Places
from workbench.observe.sample import Peaks, Tokens

PEAKS = 8
_SUMS = ("absmax", "total", "squares", "weight_absmax")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen of one tensor, K channels wide.

    `absmax` is float32 [K], `total` and `squares` float64 [K] sums over `count` tokens.
    `weight_absmax` float32 [K] is the largest weight that multiplies each channel, or empty where
    none does. `tokens` is a random sample of `sample_size` tokens, `peaks` the tokens at which the
    8 loudest channels had their absmax.
    """

    count: int
    absmax: Tensor
    total: Tensor
    squares: Tensor
    weight_absmax: Tensor
    tokens: Tokens
    peaks: Peaks
    sample_size: int

    @property
    def sample(self) -> Tensor:
        """The sampled tokens themselves, float32 [T, K]."""
        return self.tokens.rows

    @property
    def channels(self) -> int:
        """K."""
        return len(self.absmax)

    @property
    def mean(self) -> Tensor:
        """Mean of each channel, float64 [K]."""
        return self.total / self.count

    @property
    def second_moment(self) -> Tensor:
        """Mean square of each channel, float64 [K]."""
        return self.squares / self.count

    @property
    def outlier_ratio(self) -> float:
        """Largest channel's absmax over the median channel's; infinite where the median is 0."""
        median = self.absmax.median().item()
        return self.absmax.max().item() / median if median > 0 else float("inf")

    def __or__(self, other: Self) -> Self:
        """Merge what was seen on other data; of two sample sizes the smaller holds for both."""
        size = min(self.sample_size, other.sample_size)
        return replace(
            self,
            sample_size=size,
            count=self.count + other.count,
            absmax=self.absmax.maximum(other.absmax),
            total=self.total + other.total,
            squares=self.squares + other.squares,
            tokens=(self.tokens + other.tokens).smallest(size),
            peaks=self.peaks.merged(other.peaks, PEAKS),
        )

    def arrays(self) -> dict[str, Tensor]:
        """All arrays by the names they have in a file."""
        found = {name: getattr(self, name) for name in _SUMS}
        for kept, tokens in (("sample", self.tokens), ("peaks", self.peaks.tokens)):
            found |= {f"{kept}/{name}": array for name, array in tokens.arrays().items()}
        return found | {"peaks/channels": self.peaks.channels}

    @staticmethod
    def fields(arrays: dict[str, Tensor]) -> dict[str, Any]:
        """The reverse of `arrays`, as keywords."""
        kept = {
            name: Tokens(*(arrays[f"{name}/{a}"] for a in ("rows", "keys", "positions", "context")))
            for name in ("sample", "peaks")
        }
        peaks = Peaks(kept["peaks"], arrays["peaks/channels"])
        return {name: arrays[name] for name in _SUMS} | {"tokens": kept["sample"], "peaks": peaks}


def measured(x: Tensor, places: Places | None, sample_size: int) -> dict[str, Any]:
    """The fields of `Seen` for tokens `x` [..., K], but for what the weights are.

    Padding is left out where `places` is of these tokens.
    """
    rows = x.detach().reshape(-1, x.shape[-1]).float()
    if places is None or x.shape[:-1] != places.shape:
        places = Places.unknown(len(rows))
    elif places.kept is not None:
        rows = rows[places.kept.to(rows.device)]
    absmax = rows.amax(0).maximum(-rows.amin(0))
    tokens = Tokens.of(rows, places)
    return {
        "count": len(rows),
        "absmax": absmax,
        "total": _total(rows),
        "squares": _total(rows.square()),
        "tokens": tokens.smallest(sample_size),
        "peaks": Peaks.of(tokens, absmax, PEAKS),
        "sample_size": sample_size,
    }


def _total(rows: Tensor) -> Tensor:
    """The sum over rows, float64 [K]."""
    # Sixty-four at a time in float32: the cast of every value would cost five times as much.
    whole = len(rows) // 64 * 64
    blocks = rows[:whole].unflatten(0, (-1, 64)).sum(1)
    return blocks.sum(0, dtype=torch.float64) + rows[whole:].sum(0, dtype=torch.float64)
