"""The op of quantized embeddings: only the rows that are looked up are dequantized."""

from typing import Any

import torch
from torch import Tensor

from workbench.ops import native
from workbench.ops.weights import dequantize

SCHEMA = (
    "(Tensor ids, Tensor data, Tensor scale, Tensor? zero_point, int bits, int rows, int columns, "
    "ScalarType dtype) -> Tensor"
)


def indexed(
    ids: Tensor,
    data: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    rows: int,
    columns: int,
    dtype: torch.dtype,
) -> Tensor:
    """Index, then dequantize, in torch."""
    del rows
    wanted = ids.flatten()
    whole = scale.dim() < 2
    point = zero_point if whole or zero_point is None else zero_point[wanted]
    values = dequantize(data[wanted], scale if whole else scale[wanted], point, bits, columns)
    return values.to(dtype).view(*ids.shape, columns)


def from_panels(
    ids: Tensor,
    data: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    rows: int,
    columns: int,
    dtype: torch.dtype,
) -> Tensor:
    """Read the rows from weights that are packed for the native kernels, as a tied head's are."""
    wide = dtype if dtype in (torch.float32, torch.bfloat16) else torch.float32
    return native.embedding(ids, data, scale, zero_point, bits, rows, columns, wide).to(dtype)


def fake(
    ids: Tensor,
    data: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    rows: int,
    columns: int,
    dtype: torch.dtype,
) -> Tensor:
    """The shape and dtype of the result, for tracing."""
    del scale, zero_point, bits, rows
    return torch.empty(*ids.shape, columns, dtype=dtype, device=data.device)


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Nothing is kept: neither ids nor integers have gradients."""
    del ctx, inputs, output


def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
    """No gradients."""
    del ctx, grad
    return (None,) * 8
