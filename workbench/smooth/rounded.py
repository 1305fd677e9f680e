"""One smoothed and rounded layer, as it will be in the quantized model."""

import torch
from torch import Tensor, nn

from workbench.observe import Entry
from workbench.quant import Calibration, QuantArgs, TransformedLinear
from workbench.quant.modules import class_for


def oriented(module: nn.Module) -> nn.Linear:
    """`module` as a linear whose weight is [out, in]; GPT-2 keeps its weights [in, out]."""
    if isinstance(module, nn.Linear):
        return module
    weight, bias = module._parameters["weight"], module._parameters.get("bias")
    assert weight is not None
    inputs, outputs = weight.shape
    made = nn.Linear(inputs, outputs, bias=False, device="meta")
    made.weight, made.bias = nn.Parameter(weight.T), bias  # type: ignore[assignment]
    return made


def rounded(
    linear: nn.Linear,
    name: str,
    entry: Entry,
    scales: Tensor,
    weights: QuantArgs | None,
    activations: QuantArgs | None,
) -> nn.Module:
    """`linear` with its input divided by `scales` and its columns multiplied, quantized and frozen.

    A static range is that of all tokens that `entry` saw.
    """
    smoothed = TransformedLinear.from_linear(linear, linear.weight * scales, scales.reciprocal())
    kind = class_for(smoothed, weights)
    if kind is None:
        return smoothed
    made = kind.from_float(smoothed, weights, activations, None, name)
    if made.static:
        with torch.no_grad(), Calibration(made):
            made(torch.stack([entry.absmax, -entry.absmax]).to(linear.weight.dtype))
    made.freeze()
    return made
