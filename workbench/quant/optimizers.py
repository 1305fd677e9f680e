"""How the scale and the zero point of each block of a weight are found."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.quant.args import QuantArgs
from workbench.quant.qtypes import qtype
from workbench.quant.rounding import affine, from_grid, symmetric, to_grid

CHUNK = 2**22  # weights worked on at a time, which bounds the temporary copies


class Optimizer(ABC):
    """Finds numbers for blocks [n, size]: a scale [n, 1] and, where affine, a zero point [n, 1]."""

    def check(self, args: QuantArgs) -> None:  # noqa: B027 - most can give anything
        """Raise WorkbenchError where `args` ask for what this optimizer cannot give."""

    @abstractmethod
    def search(self, blocks: Tensor, kind: qtype, affine: bool) -> tuple[Tensor, Tensor | None]:
        """Find the numbers of float32 `blocks`."""

    @torch.no_grad()
    def __call__(self, blocks: Tensor, args: QuantArgs) -> tuple[Tensor, Tensor | None]:
        """Find the numbers of float32 `blocks` [n, size], a bounded share of them at a time."""
        rows = max(1, CHUNK // max(blocks.shape[1], 1))
        kind, is_affine = args.qtype, not args.symmetric
        if blocks.shape[1] == 0:
            blocks = blocks.new_zeros(blocks.shape[0], 1)
        found = [self.search(part, kind, is_affine) for part in blocks.split(rows)]
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
        return _numbers(*blocks.aminmax(dim=1, keepdim=True), kind, affine)


@dataclass(frozen=True)
class MseOptimizer(Optimizer):
    """The share of the range with the least squared error, of `steps` from 1 down to `least`."""

    steps: int = 24
    least: float = 0.4

    def search(self, blocks: Tensor, kind: qtype, affine: bool) -> tuple[Tensor, Tensor | None]:
        low, high = blocks.aminmax(dim=1, keepdim=True)
        best: tuple[Tensor, Tensor, Tensor | None] | None = None
        for share in torch.linspace(1.0, self.least, self.steps).tolist():
            scale, point = _numbers(low * share, high * share, kind, affine)
            error = from_grid(to_grid(blocks, scale, point, kind), scale, point).sub_(blocks)
            loss = error.square_().sum(1, keepdim=True)
            if best is None:
                best = loss, scale, point
                continue
            better = loss < best[0]
            kept = best[2]
            best = (
                torch.where(better, loss, best[0]),
                torch.where(better, scale, best[1]),
                None if point is None or kept is None else torch.where(better, point, kept),
            )
        assert best is not None
        return best[1], best[2]


@dataclass(frozen=True)
class HqqOptimizer(Optimizer):
    """Half-quadratic search for a fractional zero point (Badri and Shaji, 2023), affine only."""

    steps: int = 20
    beta: float = 10.0
    growth: float = 1.01
    norm: float = 0.7

    def check(self, args: QuantArgs) -> None:
        if args.symmetric:
            raise WorkbenchError("HqqOptimizer moves the zero point: set symmetric=False")

    def search(self, blocks: Tensor, kind: qtype, affine: bool) -> tuple[Tensor, Tensor | None]:
        scale, point = _numbers(*blocks.aminmax(dim=1, keepdim=True), kind, affine)
        assert point is not None
        beta, best = self.beta, (torch.inf, point)
        for _ in range(self.steps):
            values = to_grid(blocks, scale, point, kind)
            residual = blocks - from_grid(values, scale, point)
            loss = residual.abs().mean().item()
            if loss >= best[0]:
                break
            best = loss, point
            size = residual.abs()
            shrunk = (size - size.clamp_min(1e-8).pow(self.norm - 1) / beta).clamp_min(0)
            error = residual.sign() * shrunk
            point = (values - (blocks - error) / scale).mean(1, keepdim=True)
            beta *= self.growth
        return scale, best[1]


def _numbers(
    low: Tensor, high: Tensor, kind: qtype, is_affine: bool
) -> tuple[Tensor, Tensor | None]:
    if is_affine:
        return affine(low, high, kind)
    return symmetric(low.neg().maximum(high), kind), None


def default_optimizer(args: QuantArgs) -> Optimizer:
    """All of the range where 8 bits cover it, the least squared error below."""
    return MseOptimizer() if args.qtype.packed else MaxOptimizer()


optimizers: dict[str, type[Optimizer]] = {
    "absmax": AbsmaxOptimizer,
    "max": MaxOptimizer,
    "mse": MseOptimizer,
    "hqq": HqqOptimizer,
}
