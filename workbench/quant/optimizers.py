"""How the scale and the zero point of each block of a weight are found."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.quant.args import QuantArgs
from workbench.quant.qtypes import qtype
from workbench.quant.rounding import (
    chunk_rows,
    fractional,
    from_grid,
    numbers_for,
    symmetric,
    to_grid,
)


class Optimizer(ABC):
    """Finds numbers for blocks [n, size]: a scale [n, 1] and, where affine, a zero point [n, 1]."""

    def check(self, args: QuantArgs) -> None:  # noqa: B027 - most can give anything
        """Raise WorkbenchError where `args` ask for what this optimizer cannot give."""

    @abstractmethod
    def search(self, blocks: Tensor, kind: qtype, affine: bool) -> tuple[Tensor, Tensor | None]:
        """Find the numbers of float32 `blocks`."""

    @torch.no_grad()
    def __call__(self, blocks: Tensor, args: QuantArgs) -> tuple[Tensor, Tensor | None]:
        """Find the numbers of `blocks` [n, size], a bounded share of them at a time."""
        rows = chunk_rows(blocks)
        kind, is_affine = args.qtype, not args.symmetric
        if blocks.shape[1] == 0:
            blocks = blocks.new_zeros(blocks.shape[0], 1)
        found = [self.search(part.float(), kind, is_affine) for part in blocks.split(rows)]
        scales, points = zip(*found, strict=True) if found else ((blocks[:, :1],), (None,))
        return torch.cat(scales), torch.cat(points) if is_affine and found else None


@dataclass(frozen=True)
class AbsmaxOptimizer(Optimizer):
    """The largest absolute value decides; for symmetric types."""

    def check(self, args: QuantArgs) -> None:
        if not args.symmetric:
            raise WorkbenchError(
                "AbsmaxOptimizer finds no zero points: use MaxOptimizer, MseOptimizer or "
                "HqqOptimizer for affine weights"
            )

    def search(self, blocks: Tensor, kind: qtype, affine: bool) -> tuple[Tensor, Tensor | None]:
        del affine
        return symmetric(blocks.abs().amax(1, keepdim=True), kind), None


@dataclass(frozen=True)
class MaxOptimizer(Optimizer):
    """The range of the values decides: all of it is kept."""

    def search(self, blocks: Tensor, kind: qtype, affine: bool) -> tuple[Tensor, Tensor | None]:
        return numbers_for(*blocks.aminmax(dim=1, keepdim=True), kind, affine)


@dataclass(frozen=True)
class MseOptimizer(Optimizer):
    """The range with the least squared error of `steps` shares, down to `least`, then refined.

    The error is `mean(e^2) + bias * mean(e)^2`, as errors of one sign add up in a product with
    inputs of one sign, behind a relu, say.
    """

    steps: int = 24
    least: float = 0.4
    bias: float = 2.0

    def search(self, blocks: Tensor, kind: qtype, affine: bool) -> tuple[Tensor, Tensor | None]:
        best = BestRange(blocks, kind, affine, self._loss)
        best.search(self.steps, self.least)
        best.fit()
        return best.scale, best.point

    def _loss(self, error: Tensor) -> Tensor:
        common = error.mean(1, keepdim=True).square_().mul_(self.bias)
        return common.add_(error.square_().mean(1, keepdim=True))


class BestRange:
    """The numbers with the least loss of those tried, for each of `blocks` [n, size] on its own.

    `loss` makes [n, 1] of rounding errors [n, size], which it may overwrite.
    """

    def __init__(
        self, blocks: Tensor, kind: qtype, affine: bool, loss: Callable[[Tensor], Tensor]
    ) -> None:
        self.blocks, self.kind, self.affine, self.loss = blocks, kind, affine, loss
        self.least = blocks.new_full((blocks.shape[0], 1), torch.inf)
        self.scale = torch.ones_like(self.least)
        self.point: Tensor | None = None

    def search(self, steps: int, least: float) -> None:
        """Try all of the range and `steps` shares of it, down to `least`, around its middle.

        The widest has one step of the grid more than the values span, for a rounded zero point cuts
        off up to half a step.
        """
        low, high = self.blocks.aminmax(dim=1, keepdim=True)
        middle = (low + high) / 2 if self.affine else torch.zeros_like(low)
        widest = 1 + 1 / (self.kind.qmax - self.kind.qmin)
        for share in (torch.ones(()), *torch.linspace(widest, least, steps)):
            near, far = (middle.lerp(end, share.to(end)) for end in (low, high))
            self._try(*numbers_for(near, far, self.kind, self.affine))

    def fit(self, weighed: Callable[[Tensor], Tensor] = lambda steps: steps) -> None:
        """Try the scale of least squares, given the integers of the best numbers.

        The squares of e are `e * weighed(e)`, for a symmetric map of [n, size].
        """
        values = to_grid(self.blocks, self.scale, self.point, self.kind)
        steps = values if self.point is None else values - self.point
        against = weighed(steps)
        fitted = (against * self.blocks).sum(1, keepdim=True) / (against * steps).sum(
            1, keepdim=True
        )
        self._try(torch.where(fitted > 0, fitted, self.scale), self.point)

    @property
    def nearest(self) -> Tensor:
        """The blocks, rounded by the best numbers."""
        values = to_grid(self.blocks, self.scale, self.point, self.kind)
        return from_grid(values, self.scale, self.point)

    def _try(self, scale: Tensor, point: Tensor | None) -> None:
        values = to_grid(self.blocks, scale, point, self.kind)
        loss = self.loss(from_grid(values, scale, point).sub_(self.blocks))
        better = loss < self.least
        self.least = torch.where(better, loss, self.least)
        self.scale = torch.where(better, scale, self.scale)
        if point is not None:
            self.point = point if self.point is None else torch.where(better, point, self.point)


@dataclass(frozen=True)
class HqqOptimizer(Optimizer):
    """Half-quadratic search for a fractional zero point (Badri and Shaji, 2023), affine only.

    All steps are taken: an end by the error of all blocks would let neighbours decide on a block.
    """

    steps: int = 20
    beta: float = 10.0
    growth: float = 1.01
    norm: float = 0.7

    def check(self, args: QuantArgs) -> None:
        if args.symmetric:
            raise WorkbenchError("HqqOptimizer moves the zero point: set symmetric=False")

    def search(self, blocks: Tensor, kind: qtype, affine: bool) -> tuple[Tensor, Tensor | None]:
        del affine
        scale, point = fractional(*blocks.aminmax(dim=1, keepdim=True), kind)
        beta = self.beta
        for _ in range(self.steps):
            values = to_grid(blocks, scale, point, kind)
            residual = blocks - from_grid(values, scale, point)
            size = residual.abs()
            shrunk = (size - size.clamp_min(1e-8).pow(self.norm - 1) / beta).clamp_min(0)
            error = residual.sign() * shrunk
            point = (values - (blocks - error) / scale).mean(1, keepdim=True)
            beta *= self.growth
        return scale, point


def default_optimizer(args: QuantArgs) -> Optimizer:
    """All of the range where 8 bits cover it, the least squared error below."""
    return MseOptimizer() if args.qtype.packed else MaxOptimizer()


optimizers: dict[str, type[Optimizer]] = {
    "absmax": AbsmaxOptimizer,
    "max": MaxOptimizer,
    "mse": MseOptimizer,
    "hqq": HqqOptimizer,
}


def optimizer_named(name: str) -> Optimizer:
    """The optimizer called `name`, with its default settings; raises WorkbenchError if unknown."""
    if name not in optimizers:
        raise WorkbenchError(f"unknown optimizer {name!r}; allowed: {', '.join(optimizers)}")
    return optimizers[name]()
