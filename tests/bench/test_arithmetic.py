"""The derived SQNR, against what follows from paper and against layers that cheat."""

import math

import pytest
import torch
from torch import nn

from workbench.bench.arithmetic import (
    TOLERANCE_DB,
    expected_sqnr_db,
    float_product,
    round_inputs,
    round_weights,
)
from workbench.bench.layers import Shape, sample
from workbench.bench.schemes import Scheme, schemes
from workbench.errors import WorkbenchError
from workbench.metrics import sqnr_db

W8 = Scheme("w8", 8)
W4 = Scheme("w4", 4, 4)
W2 = Scheme("w2", 2, 4)


def test_rounding_by_hand() -> None:
    row = torch.tensor([[-1.0, 0.3, 0.5, 1.27]], dtype=torch.float64)
    # Step 0.01: every value is on the grid.
    assert torch.allclose(round_weights(row, W8), row, atol=1e-15)
    # From -1 to 1.27 in 15 steps of 0.1513 with 0 on the grid: -7, 2, 3, 8 steps.
    expected = torch.tensor([[-7.0, 2.0, 3.0, 8.0]], dtype=torch.float64) * 2.27 / 15
    assert torch.allclose(round_weights(row, W4), expected, atol=1e-12)
    # From -1 to 1.27 in 3 steps of 0.7567: -1, 0.513, 0.513, 1.27.
    expected = torch.tensor([[-1.0, 0.51333333, 0.51333333, 1.27]], dtype=torch.float64)
    assert torch.allclose(round_weights(row, W2), expected, atol=1e-8)


def test_inputs_per_token_and_per_tensor() -> None:
    x = torch.tensor([[1.27, 0.014], [127.0, 1.4]], dtype=torch.float64)
    token = round_inputs(x, Scheme("w8a8", 8, None, "token"))
    tensor = round_inputs(x, Scheme("w8a8-static", 8, None, "tensor"))
    assert torch.allclose(token, torch.tensor([[1.27, 0.01], [127.0, 1.0]]).double(), atol=1e-6)
    assert torch.allclose(tensor, torch.tensor([[1.0, 0.0], [127.0, 1.0]]).double())
    assert torch.equal(round_inputs(x, W8), x)


def test_a_group_of_equal_or_zero_weights_stays_finite() -> None:
    for scheme in (W8, W4, W2):
        for value in (0.0, 0.7, -0.7):
            weight = torch.full((2, 8), value, dtype=torch.float64)
            assert torch.allclose(round_weights(weight, scheme), weight, atol=1e-12)


def test_uniform_noise_gives_the_level() -> None:
    """A step d adds d^2 / 12 to each weight; with normal weights and inputs SQNR follows."""
    linear, x = sample(Shape(m=64, k=1024, n=512))
    linear.bias.zero_()
    steps = linear.weight.double().abs().amax(1) / 127
    noise = (steps.square() / 12).mean()
    level = 10 * math.log10(linear.weight.double().square().mean() / noise)
    found = expected_sqnr_db(linear, x, W8).most
    assert found == pytest.approx(level, abs=0.1)


def test_bfloat16_output_costs_what_eight_bits_of_mantissa_cost() -> None:
    """With nothing else rounded: (2^-7)^2 / 12 * E[1/m^2] = 2.75e-6 of the signal, -55.6 dB.

    E[1/m^2] is 3 / (8 ln 2) for mantissas m log-uniform in [1, 2).
    """
    linear, x = sample(Shape(m=64, k=1024, n=512))
    truth = float_product(linear, x)
    assert sqnr_db(truth, truth.bfloat16()) == pytest.approx(55.6, abs=0.2)


def test_weights_may_be_rounded_to_bfloat16_or_not() -> None:
    """Rounding them adds as much noise as rounding the output does: 2.75e-6 of the signal."""
    linear, x = sample(Shape(m=64, k=512, n=256))
    linear.bias.zero_()
    least, most = expected_sqnr_db(linear, x.bfloat16(), W8)
    assert 10 ** (-least / 10) - 10 ** (-most / 10) == pytest.approx(2.75e-6, rel=0.15)
    least, most = expected_sqnr_db(linear, x, W8)
    assert least == pytest.approx(most, abs=1e-3)


def test_the_order_of_sums_stays_far_within_the_tolerance() -> None:
    linear, x = sample(Shape(m=16, k=4096, n=64))
    truth = float_product(linear, x)
    weights = round_weights(linear.weight.double(), W8).float()
    found = sqnr_db(truth, nn.functional.linear(x, weights, linear.bias))
    assert found == pytest.approx(expected_sqnr_db(linear, x, W8).most, abs=TOLERANCE_DB / 10)


def test_each_scheme_loses_more_than_the_one_with_more_bits() -> None:
    linear, x = sample(Shape(m=16, k=512, n=64))
    found = {s.op: expected_sqnr_db(linear, x, s).most for s in schemes() if not s.is_float}
    assert found["w8"] > found["w8a8"] > found["w8a8-static"] > found["w4"] > found["w2"]
    assert found["w4"] >= found["w4a8"]
    assert found["w8a8-static"] > 35
    assert 18 < found["w4a8"] < 28
    assert 5 < found["w2a8"] < 12


def test_other_bits_are_refused() -> None:
    with pytest.raises(WorkbenchError, match=r"bits 3 .*allowed: 8, 4, 2"):
        schemes([3])
