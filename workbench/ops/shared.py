"""The op of several linear layers that read one input, quantized once; functions after them fused.

What `workbench.graph.fuse` puts into compiled models: each output as the layer alone gives it, bit
for bit, but for the activation function, which is computed in float32 before the output is rounded.
"""

import torch
from torch import Tensor

from workbench.ops import native
from workbench.ops.linear import digits_for

OF_DTYPE = 0  # instead of a number of digits: as many as hold the input

_library = torch.library.Library("workbench", "FRAGMENT")
_library.define(
    "linears_native(Tensor x, Tensor[] data, Tensor[] scale, Tensor?[] zero_point, int bits, "
    "int[] rows, int columns, Tensor?[] bias, str[] activation, int digits, "
    "Tensor? input_scale=None, Tensor? multiplier=None) -> Tensor[]"
)


def linears_native(
    x: Tensor,
    data: list[Tensor],
    scale: list[Tensor],
    zero_point: list[Tensor | None],
    bits: int,
    rows: list[int],
    columns: int,
    bias: list[Tensor | None],
    activation: list[str],
    digits: int,
    input_scale: Tensor | None = None,
    multiplier: Tensor | None = None,
) -> list[Tensor]:
    """Multiply `x` [..., columns] by each weight; as many outputs [..., rows]."""
    each = zip(data, scale, zero_point, rows, bias, activation, strict=True)
    weights = [native.Weight(*one) for one in each]
    count = digits_for(x.dtype) if digits == OF_DTYPE else digits
    return native.linears(x, weights, bits, columns, input_scale, multiplier, count)


def _fake(
    x: Tensor,
    _data: list[Tensor],
    _scale: list[Tensor],
    _zero_point: list[Tensor | None],
    _bits: int,
    rows: list[int],
    *_: object,
) -> list[Tensor]:
    return [x.new_empty((*x.shape[:-1], count)) for count in rows]


_library.impl("linears_native", linears_native, "CompositeExplicitAutograd")
torch.library.register_fake("workbench::linears_native", _fake, lib=_library)
