"""What watches a static activation during calibration and settles its range."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workbench.quant.args import QuantArgs
from workbench.quant.rounding import from_grid, numbers_for, to_grid

BINS = 4096
CANDIDATES = 100  # ranges tried, from all of the histogram down to a hundredth of it


class Observer(ABC):
    """Takes in the values of batch after batch; then says the range [low, high] to quantize."""

    seen = False

    def update(self, values: Tensor, momentum: float) -> None:
        """Take in one more batch of values, of any shape; none at all change nothing."""
        if values.numel():
            self.seen = True
            self.watch(values.detach().float(), momentum)

    @abstractmethod
    def watch(self, values: Tensor, momentum: float) -> None:
        """Take in float32 `values`, at least one."""

    @abstractmethod
    def range(self, args: QuantArgs) -> tuple[Tensor, Tensor]:
        """The range, float32 [], for activations quantized by `args`."""


@dataclass
class MaxObserver(Observer):
    """All values ever seen fit; does not depend on the order of batches."""

    low: Tensor | None = None
    high: Tensor | None = None

    def watch(self, values: Tensor, momentum: float) -> None:
        del momentum
        low, high = values.aminmax()
        self.low = low if self.low is None else low.minimum(self.low.to(low.device))
        self.high = high if self.high is None else high.maximum(self.high.to(high.device))

    def range(self, args: QuantArgs) -> tuple[Tensor, Tensor]:
        del args
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high


@dataclass
class MomentumObserver(MaxObserver):
    """An exponential moving average as in quanto: new = momentum * old + (1 - momentum) * batch."""

    def watch(self, values: Tensor, momentum: float) -> None:
        low, high = values.aminmax()
        if self.low is not None and self.high is not None:
            low = self.low.to(low.device).lerp(low, 1 - momentum)
            high = self.high.to(high.device).lerp(high, 1 - momentum)
        self.low, self.high = low, high


@dataclass
class HistogramObserver(Observer):
    """Counts values in equal bins over [-2^k, 2^k] and leaves it to a subclass to cut the tails.

    When a batch needs a larger k, pairs of bins merge, so the counts are the same in any order of
    batches, and as if all had come at once.
    """

    exponent: int | None = None
    counts: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))

    def watch(self, values: Tensor, momentum: float) -> None:
        del momentum
        absmax = values.abs().max()
        needed = int(torch.frexp(absmax.clamp_min(2.0**-100)).exponent)
        if self.exponent is None:
            self.exponent = needed
        while self.exponent < needed:
            self.counts = _halved(self.counts)
            self.exponent += 1
        edge = 2.0**self.exponent
        index = ((values.flatten() / edge + 1) * (BINS / 2)).long().clamp_(0, BINS - 1)
        self.counts += torch.bincount(index, minlength=BINS).cpu().double()

    def centers(self) -> Tensor:
        """The middle of each bin, float32 [BINS]."""
        assert self.exponent is not None
        width = 2.0 ** (self.exponent + 1) / BINS
        return (torch.arange(BINS) + 0.5).mul(width).sub(2.0**self.exponent)

    def occupied(self) -> tuple[Tensor, Tensor]:
        """Lower edge of the first bin that holds values and upper edge of the last."""
        filled = self.counts.nonzero().flatten()
        centers = self.centers()
        half = (centers[1] - centers[0]) / 2
        return centers[filled[0]] - half, centers[filled[-1]] + half

    def candidates(self, args: QuantArgs) -> list[tuple[Tensor, Tensor]]:
        """Ranges to choose from: shrinking shares of what is occupied."""
        low, high = self.occupied()
        if args.symmetric:
            high = low.neg().maximum(high)
            low = -high
        shares = torch.linspace(1.0, 1.0 / CANDIDATES, CANDIDATES)
        return [(low * share, high * share) for share in shares]

    def quantized(self, low: Tensor, high: Tensor, args: QuantArgs) -> Tensor:
        """What becomes of the bin centres when [low, high] is quantized, float32 [BINS]."""
        numbers = numbers_for(low, high, args.qtype, not args.symmetric)
        return from_grid(to_grid(self.centers(), *numbers, args.qtype), *numbers)


@dataclass
class PercentileObserver(HistogramObserver):
    """Cuts off the `tail` share of values: half of it on each side, by magnitude if symmetric."""

    tail: float = 1e-4

    def range(self, args: QuantArgs) -> tuple[Tensor, Tensor]:
        low, high = self.occupied()
        centers = self.centers()
        if args.symmetric:
            magnitude = (self.counts + self.counts.flip(0))[BINS // 2 :]
            inside = magnitude.cumsum(0) < (1 - self.tail) * magnitude.sum()
            cut = centers[BINS // 2 :][inside.sum().clamp_max(BINS // 2 - 1)]
            return -cut, cut
        share = self.counts.cumsum(0) / self.counts.sum()
        first = int((share <= self.tail / 2).sum())
        last = int((share < 1 - self.tail / 2).sum())
        return low.maximum(centers[first]), high.minimum(centers[min(last, BINS - 1)])


@dataclass
class MseObserver(HistogramObserver):
    """The range with the least squared error over the histogram."""

    def range(self, args: QuantArgs) -> tuple[Tensor, Tensor]:
        centers = self.centers()

        def loss(span: tuple[Tensor, Tensor]) -> float:
            error = (self.quantized(*span, args) - centers).double().square()
            return float((self.counts * error).sum())

        return min(self.candidates(args), key=loss)


@dataclass
class EntropyObserver(HistogramObserver):
    """The range whose quantized histogram has the least KL divergence from the seen one.

    As in TensorRT's calibration (Migacz, GTC 2017): the seen histogram, its tails moved into the
    last bins kept, against the same with each quantization level's counts spread evenly.
    """

    def range(self, args: QuantArgs) -> tuple[Tensor, Tensor]:
        centers = self.centers()

        def divergence(span: tuple[Tensor, Tensor]) -> float:
            low, high = span
            inside = ((centers >= low) & (centers <= high)).nonzero().flatten()
            if not len(inside):
                return torch.inf
            first, last = int(inside[0]), int(inside[-1]) + 1
            kept = self.counts[first:last].clone()
            reference = kept.clone()
            reference[0] += self.counts[:first].sum()
            reference[-1] += self.counts[last:].sum()
            _, level = self.quantized(low, high, args)[first:last].unique(return_inverse=True)
            filled = (kept > 0).double()
            total = torch.zeros(BINS, dtype=torch.float64).index_add_(0, level, kept)
            share = torch.zeros(BINS, dtype=torch.float64).index_add_(0, level, filled)
            spread = (total / share.clamp_min(1))[level] * filled
            p, q = reference / reference.sum(), spread / spread.sum().clamp_min(1e-30)
            return float((p * (p.clamp_min(1e-30).log() - q.clamp_min(1e-30).log())).sum())

        return min(self.candidates(args), key=divergence)


def _halved(counts: Tensor) -> Tensor:
    """The histogram over twice the range: bins merge in pairs around the middle."""
    merged = counts.view(-1, 2).sum(1)
    return torch.nn.functional.pad(merged, (BINS // 4, BINS // 4))


observers: dict[str, type[Observer]] = {
    "max": MaxObserver,
    "momentum": MomentumObserver,
    "percentile": PercentileObserver,
    "mse": MseObserver,
    "entropy": EntropyObserver,
}
