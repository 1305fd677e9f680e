"""Rounding to a number type and back, with the gradients that training needs."""

from typing import Any

import torch
from torch import Tensor

from workbench.quant.qtypes import qtype


class _Round(torch.autograd.Function):
    """Round to integers, or to a float8 type, and pass the gradient straight through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, storage: torch.dtype) -> Tensor:
        del ctx
        return x.to(storage).to(x.dtype) if storage.is_floating_point else x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        del ctx
        return grad, None


def to_grid(x: Tensor, scale: Tensor, zero_point: Tensor | None, kind: qtype) -> Tensor:
    """Divide, shift, clamp and round float32 `x` to the values of `kind`, still as floats.

    The gradient ignores the rounding and stops at the clamp (arXiv:1308.3432); that of `scale` is
    the one of LSQ (arXiv:1902.08153).
    """
    scaled = x / scale
    if zero_point is not None:
        scaled = scaled + zero_point
    return _Round.apply(scaled.clamp(kind.qmin, kind.qmax), kind.storage)  # type: ignore[no-untyped-call]


def from_grid(values: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """Undo `to_grid` as far as rounding allows."""
    return (values if zero_point is None else values - zero_point) * scale


def affine(low: Tensor, high: Tensor, kind: qtype) -> tuple[Tensor, Tensor]:
    """The scale and integer zero point that spread [low, high] and 0 over all values of `kind`."""
    low, high = low.clamp_max(0), high.clamp_min(0)
    scale = positive((high - low) / (kind.qmax - kind.qmin))
    zero_point = (kind.qmin - low / scale).round().clamp(kind.qmin, kind.qmax)
    return scale, zero_point


def symmetric(absmax: Tensor, kind: qtype) -> Tensor:
    """The scale that maps [-absmax, absmax] onto [-qmax, qmax]."""
    return positive(absmax / kind.qmax)


def positive(scale: Tensor) -> Tensor:
    """The scale, 1 where it is 0: all values are zero there, or too small to tell from it."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))
