"""Rounding to a number type and back, with the gradients that training needs."""

from typing import Any

import torch
from torch import Tensor

from workbench.quant.qtypes import qtype

CHUNK = 2**12, 2**16  # values worked on at a time where none has a gradient: least and most
COPIES = 16  # of a chunk in float32 that a search for scales keeps


class _Round(torch.autograd.Function):
    """Clamp and round to integers, or to a float8 type, and pass the gradient straight through.

    With `stops` it stops where clamping moved a value by half a step or more; the value that set
    the scale, which divides to 127.00001, say, is not clipped.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: qtype, stops: bool) -> Tensor:
        inside = x.clamp(kind.qmin, kind.qmax)
        ctx.save_for_backward((x - inside).abs() < 0.5 if stops else None)
        return inside.to(kind.storage).to(x.dtype) if kind.is_float else inside.round_()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (passes,) = ctx.saved_tensors
        return grad if passes is None else grad * passes, None, None


def chunk_rows(values: Tensor) -> int:
    """How many rows of `values` [n, size] to work on at a time: all copies take half as much."""
    least, most = CHUNK
    return max(1, min(max(values.numel() // (2 * COPIES), least), most) // max(values.shape[1], 1))


def to_grid(x: Tensor, scale: Tensor, zero_point: Tensor | None, kind: qtype) -> Tensor:
    """Divide, shift, clamp and round float32 `x` to the values of `kind`, still as floats.

    The gradient ignores the rounding (arXiv:1308.3432). Where the scale is learned, the gradients
    are those of LSQ (arXiv:1902.08153): that of clipped values goes to the scale alone. Where it
    follows from the values, clipped ones keep theirs, or they could never come back.
    """
    scaled = x / scale
    if zero_point is not None:
        scaled += zero_point
    return _Round.apply(scaled, kind, scale.requires_grad)  # type: ignore[no-untyped-call]


def to_storage(blocks: Tensor, scale: Tensor, zero_point: Tensor | None, kind: qtype) -> Tensor:
    """Round `blocks` [..., size] by numbers [...] to the storage type, some at a time."""
    flat = blocks.reshape(-1, 1 if scale.numel() == 1 else blocks.shape[-1])
    made = torch.empty(flat.shape, dtype=kind.storage, device=blocks.device)
    rows = chunk_rows(flat)

    def parts(numbers: Tensor) -> tuple[Tensor, ...]:
        return numbers.reshape(-1, 1).expand(len(flat), 1).split(rows)

    scales = parts(scale)
    points = [None] * len(scales) if zero_point is None else parts(zero_point)
    for part, out, one, point in zip(
        flat.split(rows), made.split(rows), scales, points, strict=True
    ):
        out.copy_(to_grid(part.float(), one, point, kind))
    return made.view(blocks.shape)


def from_grid(values: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """Undo `to_grid` as far as rounding allows."""
    return (values if zero_point is None else values - zero_point) * scale


def numbers_for(
    low: Tensor, high: Tensor, kind: qtype, is_affine: bool
) -> tuple[Tensor, Tensor | None]:
    """The scale and, if affine, the zero point for values in [low, high]."""
    if is_affine:
        # Engines read whole zero points only; below 4 bits, which none reads, they cost too much.
        return affine(low, high, kind) if kind.bits >= 4 else fractional(low, high, kind)
    return symmetric(low.neg().maximum(high), kind), None


def affine(low: Tensor, high: Tensor, kind: qtype) -> tuple[Tensor, Tensor]:
    """The scale and integer zero point that spread [low, high] and 0 over all values of `kind`."""
    low, high = low.clamp_max(0), high.clamp_min(0)
    scale = positive((high - low) / (kind.qmax - kind.qmin))
    zero_point = (kind.qmin - low / scale).round().clamp(kind.qmin, kind.qmax)
    return scale, zero_point


def fractional(low: Tensor, high: Tensor, kind: qtype) -> tuple[Tensor, Tensor]:
    """The scale and fractional zero point that spread [low, high] over all values of `kind`."""
    scale = positive((high - low) / (kind.qmax - kind.qmin))
    return scale, kind.qmin - low / scale


def symmetric(absmax: Tensor, kind: qtype) -> Tensor:
    """The scale that maps [-absmax, absmax] onto [-qmax, qmax]."""
    return positive(absmax / kind.qmax)


def positive(scale: Tensor) -> Tensor:
    """The scale, 1 where it is 0: all values are zero there, or too small to tell from it."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))
