"""W8A8 linear: int8 weights per output channel, int8 activations per tensor or per token.

Every implementation computes

    q   = clamp(round(x * multiplier), -128, 127)                    static, `input_scale` given
    q   = round(x * multiplier / s), s = max|row| / 127              dynamic, one s per token
    out = ((q @ weight.T) * s) * weight_scale + bias

with an int32 accumulator and the float epilogue in exactly this order, in float32, so that all of
them agree bit for bit. `multiplier` [K] or [1] carries the layer's input transform and, when
static, 1 / input_scale.
"""

from typing import Any

import torch
from torch import Tensor

OP = "w8a8_linear"
SCHEMA = (
    "(Tensor x, Tensor weight, Tensor weight_scale, Tensor? bias=None, "
    "Tensor? input_scale=None, Tensor? multiplier=None) -> Tensor"
)
INT8_MIN, INT8_MAX = -128, 127


def quantize_rows(
    x: Tensor, input_scale: Tensor | None, multiplier: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Quantize `x` [rows, K] to int8; return it with its scale, [1] static or [rows, 1] dynamic."""
    scaled = x.to(torch.float32) if multiplier is None else x * multiplier
    if input_scale is not None:
        return scaled.round().clamp_(INT8_MIN, INT8_MAX).to(torch.int8), input_scale
    # A row of zeros has no scale of its own; any positive one represents it exactly.
    scale = scaled.abs().amax(-1, keepdim=True).div_(INT8_MAX).clamp_min_(1e-30)
    return scaled.div(scale).round_().to(torch.int8), scale


def reference(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None = None,
    input_scale: Tensor | None = None,
    multiplier: Tensor | None = None,
) -> Tensor:
    """The truth in tests: the product in float64, where int8 sums are exact."""
    q, scale = quantize_rows(x.reshape(-1, x.shape[-1]), input_scale, multiplier)
    product = (q.double() @ weight.double().t()).to(torch.float32)
    return finish(product, scale, weight_scale, bias, x)


def int_mm(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None = None,
    input_scale: Tensor | None = None,
    multiplier: Tensor | None = None,
) -> Tensor:
    """torch's int8 product: oneDNN on AMX or VNNI, cuBLAS on a GPU."""
    q, scale = quantize_rows(x.reshape(-1, x.shape[-1]), input_scale, multiplier)
    # torch takes a single row of unit strides for a column; spelled out, it cannot.
    columns = weight.t() if weight.shape[1] > 1 else weight.view(1, -1)
    accumulator = torch._int_mm(q, columns)
    # Converting in place spares a second large allocation, whose page faults outcost the product.
    product = accumulator.view(torch.float32).copy_(accumulator)
    return finish(product, scale, weight_scale, bias, x)


def finish(
    product: Tensor, scale: Tensor, weight_scale: Tensor, bias: Tensor | None, x: Tensor
) -> Tensor:
    """Apply the float epilogue to `product` [rows, N] and give it the leading shape of `x`."""
    product.mul_(scale).mul_(weight_scale.view(-1))
    if bias is not None:
        product.add_(bias)
    return product.to(x.dtype).view(*x.shape[:-1], product.shape[-1])


def fake(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None = None,
    input_scale: Tensor | None = None,
    multiplier: Tensor | None = None,
) -> Tensor:
    """The shape and dtype of the result, for tracing."""
    del weight_scale, bias, input_scale, multiplier  # the schema has them; no shape depends on them
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keep what `backward` needs."""
    del output
    x, weight, weight_scale, bias, input_scale, multiplier = inputs
    ctx.save_for_backward(weight, weight_scale, input_scale, multiplier)
    ctx.like, ctx.bias = x.dtype, None if bias is None else bias.dtype


def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Pass gradients straight through the rounding of inputs (arXiv:1308.3432)."""
    weight, weight_scale, input_scale, multiplier = ctx.saved_tensors
    through = (grad.float() * weight_scale.view(-1)) @ weight.float()
    if multiplier is not None:
        through = through * (multiplier if input_scale is None else multiplier * input_scale)
    bias = None if ctx.bias is None else grad.flatten(0, -2).sum(0).to(ctx.bias)
    return through.to(ctx.like), None, None, bias, None, None
