"""How the scale and the zero point of each block of a weight are found."""

from abc import ABC, abstractmethod
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
    inputs of one sign, behind a relu, say. The widest range has one step of the grid more than the
    values span, for a rounded zero point cuts off up to half a step. To the best one the scale is
    fitted by least squares, given the integers.
    """

    steps: int = 24
    least: float = 0.4
    bias: float = 2.0

    def search(self, blocks: Tensor, kind: qtype, affine: bool) -> tuple[Tensor, Tensor | None]:
        low, high = blocks.aminmax(dim=1, keepdim=True)
        middle = (low + high) / 2 if affine else torch.zeros_like(low)
        best = _Best(blocks, kind, self.bias)
        widest = 1 + 1 / (kind.qmax - kind.qmin)
        for share in (torch.ones(()), *torch.linspace(widest, self.least, self.steps)):
            near, far = (middle.lerp(end, share.to(end)) for end in (low, high))
            best.consider(*numbers_for(near, far, kind, affine))
        values = to_grid(blocks, best.scale, best.point, kind)
        steps = values if best.point is None else values - best.point
        fitted = (steps * blocks).sum(1, keepdim=True) / steps.square().sum(1, keepdim=True)
        best.consider(torch.where(fitted > 0, fitted, best.scale), best.point)
        return best.scale, best.point


class _Best:
    """The numbers with the least error of those considered, for each block on its own."""

    def __init__(self, blocks: Tensor, kind: qtype, bias: float) -> None:
        self.blocks, self.kind, self.bias = blocks, kind, bias
        self.loss = blocks.new_full((blocks.shape[0], 1), torch.inf)
        self.scale = torch.ones_like(self.loss)
        self.point: Tensor | None = None

    def consider(self, scale: Tensor, point: Tensor | None) -> None:
        values = to_grid(self.blocks, scale, point, self.kind)
        error = from_grid(values, scale, point).sub_(self.blocks)
        common = error.mean(1, keepdim=True).square_().mul_(self.bias)
        loss = common.add_(error.square_().mean(1, keepdim=True))
        better = loss < self.loss
        self.loss = torch.where(better, loss, self.loss)
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
