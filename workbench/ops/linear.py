"""The ops of quantized linear layers, `x W^T + b`: three arithmetics, one schema.

* `a8_linear`: activations of 8 bits, per tensor (static) or per token; integer weights.
* `weight_only_linear`: activations in digits (`workbench.ops.digits`), as good as in float.
* `dequantized_linear`: floats throughout, on one block of dequantized rows after the other.

All implementations of the first two compute the same bits, those of one op.
"""

from typing import Any

import torch
from torch import Tensor

from workbench.ops import native
from workbench.ops.digits import finish, multiply, to_digits
from workbench.ops.weights import dequantize, integers

SCHEMA = (
    "(Tensor x, Tensor data, Tensor scale, Tensor? zero_point, int bits, int rows, int columns, "
    "Tensor? bias=None, Tensor? input_scale=None, Tensor? multiplier=None) -> Tensor"
)
BLOCK = 2**20  # weights dequantized at a time: 4 MB of float32 stay in the cache


def a8_reference(
    x: Tensor,
    data: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    rows: int,
    columns: int,
    bias: Tensor | None = None,
    input_scale: Tensor | None = None,
    multiplier: Tensor | None = None,
) -> Tensor:
    """The truth in tests: exact products, in floats wide enough."""
    digits, step = to_digits(x.reshape(-1, columns), input_scale, multiplier)
    product = multiply(digits, integers(data, bits, rows, columns), scale, zero_point)
    return finish(product, step, bias, x)


def a8_int_mm(
    x: Tensor,
    data: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    rows: int,
    columns: int,
    bias: Tensor | None = None,
    input_scale: Tensor | None = None,
    multiplier: Tensor | None = None,
) -> Tensor:
    """torch's int8 product, for 8-bit weights in one group: oneDNN's, or cuBLAS's on a GPU."""
    del zero_point, bits, rows
    (q,), step = to_digits(x.reshape(-1, columns), input_scale, multiplier)
    # torch takes a single row of unit strides for a column; spelled out, it cannot.
    by_column = data.t() if columns > 1 else data.view(1, -1)
    accumulator = torch._int_mm(q, by_column)
    # Converting in place spares a second large allocation, whose page faults outcost the product.
    product = accumulator.view(torch.float32).copy_(accumulator)
    return finish(product.mul_(scale.view(-1)), step, bias, x)


def a8_native(
    x: Tensor,
    data: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    rows: int,
    columns: int,
    bias: Tensor | None = None,
    input_scale: Tensor | None = None,
    multiplier: Tensor | None = None,
) -> Tensor:
    """The native kernels: 8-bit activations are one digit."""
    weight = native.Weight(data, scale, zero_point, rows, bias)
    return native.linears(x, [weight], bits, columns, input_scale, multiplier, digits=1)[0]


def digits_for(dtype: torch.dtype) -> int:
    """How many digits hold an activation of `dtype` as well as its own mantissa does."""
    return 2 if dtype in (torch.bfloat16, torch.float16) else 3


def weight_only_reference(
    x: Tensor,
    data: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    rows: int,
    columns: int,
    bias: Tensor | None = None,
    input_scale: Tensor | None = None,
    multiplier: Tensor | None = None,
) -> Tensor:
    """The truth in tests: exact products for each digit."""
    del input_scale  # each row has a step of its own
    digits, step = to_digits(x.reshape(-1, columns), None, multiplier, digits_for(x.dtype))
    product = multiply(digits, integers(data, bits, rows, columns), scale, zero_point)
    return finish(product, step, bias, x)


def weight_only_native(
    x: Tensor,
    data: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    rows: int,
    columns: int,
    bias: Tensor | None = None,
    input_scale: Tensor | None = None,
    multiplier: Tensor | None = None,
) -> Tensor:
    """The native kernels, on two or three digits."""
    del input_scale
    weight = native.Weight(data, scale, zero_point, rows, bias)
    digits = digits_for(x.dtype)
    return native.linears(x, [weight], bits, columns, None, multiplier, digits)[0]


def dequantized_blocked(
    x: Tensor,
    data: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    rows: int,
    columns: int,
    bias: Tensor | None = None,
    input_scale: Tensor | None = None,
    multiplier: Tensor | None = None,
) -> Tensor:
    """Multiply by one dequantized block of rows after the other, in the dtype of `x`."""
    del input_scale
    if multiplier is not None:
        x = (x * multiplier).to(x.dtype)
    step = max(1, BLOCK // max(columns, 1))
    out = x.new_empty((*x.shape[:-1], rows))
    whole = scale.dim() < 2
    for start in range(0, rows, step):
        part = slice(start, start + step)
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
    rows: int,
    columns: int,
    bias: Tensor | None = None,
    input_scale: Tensor | None = None,
    multiplier: Tensor | None = None,
) -> Tensor:
    """The shape and dtype of the result, for tracing."""
    # The schema has them; no shape depends on them.
    del data, scale, zero_point, bits, columns, bias, input_scale, multiplier
    return x.new_empty((*x.shape[:-1], rows))


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keep what `backward` needs."""
    del output
    x, data, scale, zero_point, ctx.bits, ctx.rows, ctx.columns, bias, input_scale, multiplier = (
        inputs
    )
    ctx.save_for_backward(data, scale, zero_point, input_scale, multiplier)
    ctx.like, ctx.bias = x.dtype, None if bias is None else bias.dtype


def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of a linear layer; integers have none.

    They pass straight through the rounding of inputs (arXiv:1308.3432).
    """
    data, scale, zero_point, input_scale, multiplier = ctx.saved_tensors
    stored = integers(data, ctx.bits, ctx.rows, ctx.columns)
    weight = dequantize(stored, scale, zero_point, ctx.bits, ctx.columns)
    through = grad @ weight.to(grad.dtype)
    if multiplier is not None:
        through = through * (multiplier if input_scale is None else multiplier * input_scale)
    bias = None if ctx.bias is None else grad.flatten(0, -2).sum(0).to(ctx.bias)
    return (through.to(ctx.like), None, None, None, None, None, None, bias, None, None)
