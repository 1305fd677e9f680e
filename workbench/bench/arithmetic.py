"""What SQNR a scheme must give, derived in float64 from its definition and from nothing else.

None of this shares code with the layers it judges.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from workbench.bench.schemes import Scheme
from workbench.metrics import sqnr_db

# Two implementations of one scheme differ in the order of float sums and in how they round a tie:
# noise of one part in 2^24, and a step of the grid at places where two of its values are as near.
# Neither moves a ratio of sums over thousands of values by a tenth of this.
TOLERANCE_DB = 0.5


class Expected(NamedTuple):
    """The least and the most SQNR, in dB, that implementations of a scheme may have."""

    least: float
    most: float


def float_product(linear: nn.Linear, x: Tensor) -> Tensor:
    """The layer in float64, on the weights and on the inputs as given."""
    return _product(x.double(), linear.weight.detach().double(), linear)


def expected_sqnr_db(linear: nn.Linear, x: Tensor, scheme: Scheme) -> Expected:
    """SQNR of `linear` on `x` [M, K] where weights and inputs are rounded as `scheme` says.

    The result is rounded to the dtype of `x`, as an engine's output is. Dequantized weights that
    multiply float inputs may be rounded to it as well, which gives the least, or not.
    """
    truth = float_product(linear, x)
    weights = round_weights(linear.weight.detach().double(), scheme)
    inputs = round_inputs(x.double(), scheme)
    most = sqnr_db(truth, _product(inputs, weights, linear).to(x.dtype))
    if scheme.activations != "float":
        return Expected(most, most)
    cast = weights.to(x.dtype).double()
    return Expected(sqnr_db(truth, _product(inputs, cast, linear).to(x.dtype)), most)


def round_weights(weight: Tensor, scheme: Scheme) -> Tensor:
    """Round float64 weights [N, K] as `scheme` says.

    8 bits: symmetric, largest absolute value at 127, one scale a row. 4 bits: from the least value
    (or 0) to the largest (or 0) in 15 steps, 0 on the grid. 2 bits: from the least to the largest
    in 3 steps.
    """
    if scheme.bits == 8:
        return _symmetric(weight, weight.abs().amax(1, keepdim=True))
    assert scheme.group_size is not None
    blocks = weight.unflatten(1, (-1, scheme.group_size))
    low, high = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
    if scheme.bits == 4:
        low, high = low.clamp_max(0), high.clamp_min(0)
    step = (high - low) / (2**scheme.bits - 1)
    step = torch.where(step > 0, step, 1.0)
    shift = low / step
    if scheme.bits == 4:
        shift = shift.round()
    places = (blocks / step - shift).round().clamp(0, 2**scheme.bits - 1)
    return ((places + shift) * step).flatten(1)


def round_inputs(x: Tensor, scheme: Scheme) -> Tensor:
    """Round float64 inputs [M, K] as `scheme` says: int8, symmetric, per token or per tensor."""
    if scheme.activations == "float":
        return x
    each = scheme.activations == "token"
    return _symmetric(x, x.abs().amax(1, keepdim=True) if each else x.abs().amax())


def _symmetric(values: Tensor, absmax: Tensor) -> Tensor:
    step = torch.where(absmax > 0, absmax, 1.0) / 127
    return (values / step).round().clamp(-128, 127) * step


def _product(x: Tensor, weight: Tensor, linear: nn.Linear) -> Tensor:
    bias = None if linear.bias is None else linear.bias.detach().double()
    return nn.functional.linear(x, weight, bias)
