"""Linear layers with quantized weights: `x W^T + b`, W = (q - zero_point) * scale.

`data` holds a matrix [rows, columns] as int8 or float8, or packed as int32 (see
`workbench.ops.packing`). `scale` and `zero_point` are [rows, groups], or [1] for the whole matrix.
The float matrix is never there as a whole: a block of rows is dequantized, used and dropped.
"""

from typing import Any

import torch
from torch import Tensor

from workbench.ops.packing import unpack

OP = "weight_only_linear"
SCHEMA = (
    "(Tensor x, Tensor data, Tensor scale, Tensor? zero_point, int bits, int columns, "
    "Tensor? bias=None) -> Tensor"
)
BLOCK = 2**20  # weights dequantized at a time: 4 MB of float32 stay in the cache


def dequantize(
    data: Tensor, scale: Tensor, zero_point: Tensor | None, bits: int, columns: int
) -> Tensor:
    """Return the float32 values [..., columns] that `data` [..., columns or words] stands for."""
    if data.dtype == torch.int32:
        data = unpack(data, bits, columns)
    values = data.to(torch.float32)
    if scale.dim() < 2:
        return (values if zero_point is None else values - zero_point) * scale
    blocks = values.unflatten(-1, (scale.shape[-1], -1)) if columns else values.unsqueeze(-1)
    if zero_point is not None:
        blocks = blocks - zero_point.unsqueeze(-1)
    return (blocks * scale.unsqueeze(-1)).reshape(values.shape)


def blocked(
    x: Tensor,
    data: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    columns: int,
    bias: Tensor | None = None,
) -> Tensor:
    """Multiply by one dequantized block of rows after the other, in the dtype of `x`."""
    rows = data.shape[0]
    step = max(1, BLOCK // max(columns, 1))
    out = x.new_empty((*x.shape[:-1], rows))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        whole = scale.dim() < 2
        weight = dequantize(
            data[part],
            scale if whole else scale[part],
            zero_point if whole or zero_point is None else zero_point[part],
            bits,
            columns,
        ).to(x.dtype)
        share = None if bias is None else bias[part]
        out[..., part] = torch.nn.functional.linear(x, weight, share)
    return out


def fake(
    x: Tensor,
    data: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    columns: int,
    bias: Tensor | None = None,
) -> Tensor:
    """The shape and dtype of the result, for tracing."""
    del scale, zero_point, bits, columns, bias  # the schema has them; no shape depends on them
    return x.new_empty((*x.shape[:-1], data.shape[0]))


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keep what `backward` needs."""
    del output
    x, data, scale, zero_point, ctx.bits, ctx.columns, bias = inputs
    ctx.save_for_backward(data, scale, zero_point)
    ctx.like, ctx.bias = x.dtype, None if bias is None else bias.dtype


def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of a linear layer; integers have none."""
    data, scale, zero_point = ctx.saved_tensors
    weight = dequantize(data, scale, zero_point, ctx.bits, ctx.columns)
    bias = None if ctx.bias is None else grad.flatten(0, -2).sum(0).to(ctx.bias)
    return (grad @ weight.to(grad.dtype)).to(ctx.like), None, None, None, None, None, bias
