"""The op of quantized embeddings: only the rows that are looked up are dequantized."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench.ops import native
from workbench.ops.weights import dequantize

SCHEMA = (
    "(Tensor ids, Tensor data, Tensor scale, Tensor? zero_point, int bits, int rows, int columns, "
    "ScalarType dtype) -> Tensor"
)


class Arguments(NamedTuple):
    """What every op here takes: `ids` [...], a stored weight as in `linear`, the dtype wanted."""

    ids: Tensor
    data: Tensor
    scale: Tensor
    zero_point: Tensor | None
    bits: int
    rows: int
    columns: int
    dtype: torch.dtype


def indexed(given: Arguments) -> Tensor:
    """Index, then dequantize, in torch."""
    ids, data, scale, point, bits, _, columns, dtype = given
    wanted = ids.flatten()
    if scale.dim() > 1:
        scale, point = scale[wanted], None if point is None else point[wanted]
    return dequantize(data[wanted], scale, point, bits, columns).to(dtype).view(*ids.shape, columns)


def from_panels(given: Arguments) -> Tensor:
    """Read the rows from weights that are packed for the native kernels, as a tied head's are."""
    wide = given.dtype if given.dtype in native.FLOATS else torch.float32
    return native.embedding(*given._replace(dtype=wide)).to(given.dtype)


def fake(given: Arguments) -> Tensor:
    """The shape and dtype of the result, for tracing."""
    shape = (*given.ids.shape, given.columns)
    return torch.empty(shape, dtype=given.dtype, device=given.data.device)


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Nothing is kept: neither ids nor integers have gradients."""
    del ctx, inputs, output


def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
    """No gradients."""
    del ctx, grad
    return (None,) * len(Arguments._fields)
