"""torchao's SmoothQuant, AWQ and GPTQ on the same layers and inputs: ours lose no more.

With 8 bits a row, where both have one grid, and AWQ with 4 bits in groups as well: its CPU kernel
has fractional zero points there, ours are whole as most engines want them, and its search goes for
whole ones too. torchao packs the 4-bit weights of GPTQ with mslk, which needs CUDA.
"""

import copy
import inspect

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.tune import Gptq, tune

pytest.importorskip("torchao", reason="torchao is not installed: pip install '.[peers]'")

from torchao.prototype.awq import AWQConfig
from torchao.prototype.awq.core import AWQObserver
from torchao.prototype.gptq import api as gptq_api
from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig
from torchao.prototype.smoothquant import SmoothQuantConfig
from torchao.quantization import (
    Int8DynamicActivationInt8WeightConfig,
    Int8Tensor,
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
    MappingType,
    PerGroup,
    quantize_,
)

SLACK = 1.02  # of the squared error of the output: sums in another order
GROUP = 128
LAYERS = ["model.layers.1.self_attn.q_proj", "model.layers.2.mlp.down_proj"]


class One(nn.Module):
    """A single linear, found by name."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


@pytest.fixture(scope="module")
def lm():
    return wb.load("pylm-outliers")


@pytest.fixture(scope="module", params=LAYERS)
def subject(request, lm):
    """A layer of a model with outliers, and its inputs for 8 sequences of calibration text."""
    linear = lm.model.get_submodule(request.param)
    seen: list[torch.Tensor] = []
    with linear.register_forward_pre_hook(lambda _, args: seen.append(args[0])), torch.no_grad():
        for batch in lm.batches("calibration", samples=8, seed=0):
            lm.model(**batch)
    return One(linear), torch.cat(seen).flatten(0, 1)


@torch.no_grad()
def error(subject, candidate) -> float:
    """Squared error of the output over its squares."""
    model, x = subject
    y = model(x)
    return float((candidate(x) - y).square().sum() / y.square().sum())


@torch.no_grad()
def converted(subject, config, base, **options):
    """The layer after torchao's two steps."""
    model, x = subject
    made = copy.deepcopy(model)
    quantize_(made, config(base, step="prepare", **options))
    made(x)
    quantize_(made, config(base, step="convert", **options))
    return made


@pytest.mark.parametrize("alpha", [0.5, 0.8])
def test_smoothing_loses_no_more_and_has_their_scales(subject, alpha) -> None:
    model, x = subject
    peer = converted(
        subject, SmoothQuantConfig, Int8DynamicActivationInt8WeightConfig(), alpha=alpha
    )
    ours = copy.deepcopy(model)
    smoothing = wb.smooth(ours, wb.observe(model, [{"x": x}]), alpha)
    theirs = peer.linear.weight.act_pre_scale.reciprocal()
    live = x.abs().amax(0) > 0.01  # they add 1e-7 to both maxima, and we take 1 for dead channels
    scales = smoothing.groups[0].scales
    torch.testing.assert_close(scales[live], theirs[live], rtol=1e-4, atol=0)
    per_token = wb.QuantArgs(granularity="token", dynamic=True)
    wb.quantize(ours, "int8", per_token)
    wb.freeze(ours)
    assert error(subject, ours) <= SLACK * error(subject, peer)


def test_awq_loses_no_more(subject) -> None:
    model, x = subject
    peer = converted(subject, AWQConfig, Int8WeightOnlyConfig())
    ours = copy.deepcopy(model)
    wb.quantize(ours, "int8")
    tune(ours, [{"x": x}], "awq")
    wb.freeze(ours)
    assert error(subject, ours) <= SLACK * error(subject, peer)


@pytest.fixture
def ours_in_fours(subject):
    """The error of our AWQ with 4 bits in groups."""
    model, x = subject

    def found(*, symmetric: bool) -> float:
        ours = copy.deepcopy(model)
        args = {"granularity": "group", "group_size": GROUP, "symmetric": symmetric}
        wb.quantize(ours, wb.QuantArgs(dtype="int4", **args))
        tune(ours, [{"x": x}], "awq")
        wb.freeze(ours)
        return error(subject, ours)

    return found


@pytest.mark.parametrize("mapping", [MappingType.ASYMMETRIC, MappingType.SYMMETRIC])
def test_awq_in_fours_loses_no_more_on_one_grid(subject, ours_in_fours, mapping) -> None:
    """Their search over the scheme that ours has: whole zero points, or none."""
    model, x = subject
    scheme = IntxWeightOnlyConfig(
        weight_dtype=torch.int4, granularity=PerGroup(GROUP), mapping_type=mapping
    )
    observer = AWQObserver(model.linear.weight.detach(), None, scheme)
    observer(x, None)
    scales = observer.calculate_qparams()
    peer = copy.deepcopy(model)
    peer.linear.weight = nn.Parameter(model.linear.weight * scales)
    quantize_(peer, scheme)
    theirs = peer.linear.weight.dequantize() / scales
    peer.linear.weight = nn.Parameter(theirs, requires_grad=False)
    found = ours_in_fours(symmetric=mapping is MappingType.SYMMETRIC)
    assert found <= error(subject, peer)


def test_awq_in_fours_loses_no_more_than_with_fractional_zero_points(
    subject, ours_in_fours
) -> None:
    scheme = PrototypeInt4WeightOnlyConfig(group_size=GROUP, set_inductor_config=False)
    peer = converted(subject, AWQConfig, scheme)
    assert ours_in_fours(symmetric=False) <= error(subject, peer)


def test_gptq_loses_no_more(subject) -> None:
    """Theirs with the two lines taken out that insist on CUDA; its columns go in their order."""
    model, x = subject
    source = inspect.getsource(gptq_api.gptq_quantize)
    for line in (
        'assert device.type == "cuda", "GPTQ only supports CUDA currently"',
        "torch.cuda.synchronize()",
    ):
        assert line in source
        source = source.replace(line, "")
    scope = dict(vars(gptq_api))
    exec(source, scope)
    base = Int8WeightOnlyConfig()
    width = x.shape[1]  # blocks that are narrower than a row would decide on its scale alone
    config = gptq_api.GPTQConfig("convert", base, gptq_quantize_block_size=width)
    gram = 2 * x.T @ x / len(x)
    found = scope["gptq_quantize"](gram, model.linear.weight.detach().clone(), config)
    assert isinstance(found, Int8Tensor)
    peer = copy.deepcopy(model)
    peer.linear.weight = nn.Parameter(found.dequantize(), requires_grad=False)
    for order in (False, True):
        ours = copy.deepcopy(model)
        wb.quantize(ours, "int8")
        tune(ours, [{"x": x}], ("rtn", Gptq(order=order)))
        wb.freeze(ours)
        assert error(subject, ours) <= SLACK * error(subject, peer), order
