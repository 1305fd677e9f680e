"""The ops of quantized linear layers, `x W^T + b`: three arithmetics, one schema.

* `a8_linear`: activations of 8 bits, per tensor (static) or per token; integer weights.
* `weight_only_linear`: activations in digits (`workbench.ops.digits`), as good as in float.
* `dequantized_linear`: floats throughout, on one block of dequantized rows after the other.

All implementations of the first two compute the same bits, those of one op.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench.ops import native
from workbench.ops.digits import finish, multiply, to_digits
from workbench.ops.weights import by_row, dequantize, integers

SCHEMA = (
    "(Tensor x, Tensor data, Tensor scale, Tensor? zero_point, int bits, int rows, int columns, "
    "Tensor? bias=None, Tensor? input_scale=None, Tensor? multiplier=None) -> Tensor"
)
BLOCK = 2**20  # weights dequantized at a time: 4 MB of float32 stay in the cache


class Arguments(NamedTuple):
    """What every op here takes, as in `SCHEMA`.

    `x` [..., columns]; `data`, a weight [rows, columns] of `bits` bits in any stored form; `scale`
    and `zero_point` [rows, groups], in panels where the weight is, or [1]; `bias` [rows];
    `input_scale` [1], the static step of inputs, or None; `multiplier` of inputs, [columns] or [1],
    which holds the inverse of a static step.
    """

    x: Tensor
    data: Tensor
    scale: Tensor
    zero_point: Tensor | None
    bits: int
    rows: int
    columns: int
    bias: Tensor | None = None
    input_scale: Tensor | None = None
    multiplier: Tensor | None = None

    @property
    def flat(self) -> Tensor:
        """The inputs as a matrix."""
        return self.x.reshape(-1, self.columns)

    @property
    def weight(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Integers [rows, columns], and by row their scales and zero points."""
        stored = integers(self.data, self.bits, self.rows, self.columns)
        point = None if self.zero_point is None else by_row(self.zero_point, self.rows)
        return stored, by_row(self.scale, self.rows), point


def a8_reference(given: Arguments) -> Tensor:
    """The truth in tests: exact products, in floats wide enough."""
    digits, step = to_digits(given.flat, given.input_scale, given.multiplier)
    return finish(multiply(digits, *given.weight), step, given.bias, given.x)


def a8_int_mm(given: Arguments) -> Tensor:
    """torch's int8 product, for 8-bit weights in one group: oneDNN's, or cuBLAS's on a GPU."""
    (q,), step = to_digits(given.flat, given.input_scale, given.multiplier)
    # torch takes a single row of unit strides for a column; spelled out, it cannot.
    by_column = given.data.t() if given.columns > 1 else given.data.view(1, -1)
    accumulator = torch._int_mm(q, by_column)
    # Converting in place spares a second large allocation, whose page faults outcost the product.
    product = accumulator.view(torch.float32).copy_(accumulator)
    return finish(product.mul_(given.scale.view(-1)), step, given.bias, given.x)


def a8_native(given: Arguments) -> Tensor:
    """The native kernels: 8-bit activations are one digit."""
    return _native(given, given.input_scale, 1)


def _native(given: Arguments, input_scale: Tensor | None, digits: int) -> Tensor:
    x, data, scale, point, bits, rows, columns, bias, _, multiplier = given
    weight = native.Weight(data, scale, point, rows, bias)
    return native.linears(x, (weight,), bits, columns, input_scale, multiplier, digits)[0]


def digits_for(dtype: torch.dtype) -> int:
    """How many digits hold an activation of `dtype` as well as its own mantissa does."""
    return 2 if dtype in (torch.bfloat16, torch.float16) else 3


def weight_only_reference(given: Arguments) -> Tensor:
    """The truth in tests: exact products for each digit, each row having a step of its own."""
    digits, step = to_digits(given.flat, None, given.multiplier, digits_for(given.x.dtype))
    return finish(multiply(digits, *given.weight), step, given.bias, given.x)


def weight_only_native(given: Arguments) -> Tensor:
    """The native kernels, on two or three digits."""
    return _native(given, None, digits_for(given.x.dtype))


def dequantized_blocked(given: Arguments) -> Tensor:
    """Multiply by one dequantized block of rows after the other, in the dtype of `x`."""
    x, data, scale, point, bits, rows, columns, bias, _, multiplier = given
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
            point if whole or point is None else point[part],
            bits,
            columns,
        ).to(x.dtype)
        share = None if bias is None else bias[part]
        out[..., part] = torch.nn.functional.linear(x, weight, share)
    return out


def fake(given: Arguments) -> Tensor:
    """The shape and dtype of the result, for tracing."""
    return given.x.new_empty((*given.x.shape[:-1], given.rows))


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keep what `backward` needs."""
    del output
    given = Arguments(*inputs)
    held = given.data, given.scale, given.zero_point, given.input_scale, given.multiplier
    ctx.save_for_backward(*held)
    ctx.form = given.bits, given.rows, given.columns
    ctx.like, ctx.bias = given.x.dtype, None if given.bias is None else given.bias.dtype


def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of a linear layer; integers have none.

    They pass straight through the rounding of inputs (arXiv:1308.3432).
    """
    data, scale, zero_point, input_scale, multiplier = ctx.saved_tensors
    given = Arguments(grad, data, scale, zero_point, *ctx.form)
    weight = dequantize(*given.weight, given.bits, given.columns)
    through = grad @ weight.to(grad.dtype)
    if multiplier is not None:
        through = through * (multiplier if input_scale is None else multiplier * input_scale)
    bias = None if ctx.bias is None else grad.flatten(0, -2).sum(0).to(ctx.bias)
    return (through.to(ctx.like), None, None, None, None, None, None, bias, None, None)
