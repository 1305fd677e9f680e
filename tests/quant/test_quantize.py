"""quantize, Calibration and freeze: what they compute, what they refuse, what they leave alone."""

import copy
import math
import threading

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from workbench import metrics
from workbench.errors import WorkbenchError
from workbench.quant import (
    Calibration,
    HqqOptimizer,
    QLinear,
    QuantArgs,
    freeze,
    qint8,
    quantization_map,
    quantize,
    requantize,
)

TOKEN = QuantArgs(granularity="token", dynamic=True)


def data(seed=0, count=3):
    g = torch.Generator().manual_seed(seed)
    return [{"input_ids": torch.randint(0, 97, (2, 16), generator=g)} for _ in range(count)]


def quantized(model, activations=qint8, exclude="lm_head"):
    model = copy.deepcopy(model)
    quantize(model, weights=qint8, activations=activations, exclude=exclude)
    with torch.no_grad(), Calibration(model):
        for batch in data():
            model(**batch)
    return model


@pytest.mark.parametrize("activations", [qint8, TOKEN], ids=["static", "token"])
def test_frozen_equals_a_float_layer_of_dequantized_weights_and_inputs(activations):
    torch.manual_seed(0)
    linear, x = nn.Linear(64, 48), torch.randn(9, 64)
    model = nn.Sequential(linear)
    quantize(model, weights=qint8, activations=activations)
    with Calibration(model):
        model(x)
    freeze(model)
    weight = linear.weight.detach()
    step = weight.abs().amax(1, keepdim=True) / 127
    weight = (weight / step).round() * step
    width = x.abs().max() if activations is qint8 else x.abs().amax(1, keepdim=True)
    inputs = (x / (width / 127)).round() * (width / 127)
    expected = nn.functional.linear(inputs.double(), weight.double(), linear.bias.double())
    found = model(x).double()
    assert ((found - expected).norm() / expected.norm()).item() < 1e-5


def test_before_and_after_freezing_compute_the_same(tiny_llama):
    model = quantized(tiny_llama)
    before = model(**data()[0]).logits
    freeze(model)
    after = model(**data()[0]).logits
    assert (after - before).abs().max() / before.abs().max() < 1e-4


def test_rounding_error_is_what_eight_bits_give():
    """Uniform inputs and weights: noise of step^2 / 12 from each side."""
    g = torch.Generator().manual_seed(0)
    linear = nn.Linear(512, 256, bias=False)
    linear.weight.data = torch.rand(256, 512, generator=g) * 2 - 1
    x = torch.rand(64, 512, generator=g) * 2 - 1
    expected = linear(x).detach()
    model = nn.Sequential(linear)
    quantize(model, weights=qint8, activations=qint8)
    with torch.no_grad(), Calibration(model):
        model(x)
    freeze(model)
    step = 1 / 127
    predicted = 10 * math.log10((1 / 3) / (2 * step**2 / 12))
    assert metrics.sqnr_db(expected, model(x)) == pytest.approx(predicted, abs=0.5)


def test_weights_are_integers_and_still_read_as_floats(tiny_llama):
    model = quantized(tiny_llama)
    layer = model.model.layers[0].mlp.up_proj
    floats = layer.weight.detach().clone()
    freeze(model)
    assert layer.state_dict()["weight"].dtype == torch.int8
    assert (layer.weight - floats).abs().max() <= layer.weight_scale.max() / 2 + 1e-7
    torch.testing.assert_close(torch.ones(48) @ layer.weight, layer.weight.dequantize().sum(0))


def test_only_what_was_asked_for_changes(tiny_llama):
    model = copy.deepcopy(tiny_llama)
    names = quantize(model, qint8, qint8, include="*.mlp.*", exclude=["*.down_proj"])
    assert names == [f"model.layers.{i}.mlp.{part}_proj" for i in (0, 1) for part in ("gate", "up")]
    changed = {n for n, m in model.named_modules() if isinstance(m, QLinear)}
    assert changed == set(names)


@pytest.mark.parametrize("activations", [qint8, TOKEN], ids=["static", "token"])
def test_requantize_gives_the_same_bits(tiny_llama, activations):
    model = quantized(tiny_llama, activations)
    freeze(model)
    again = copy.deepcopy(tiny_llama)
    for parameter in again.parameters():
        parameter.data.zero_()
    requantize(again, model.state_dict(), quantization_map(model))
    assert torch.equal(again(**data()[0]).logits, model(**data()[0]).logits)
    assert again.lm_head.weight is again.model.embed_tokens.weight


def test_moving_keeps_scales_in_float32(tiny_llama):
    model = quantized(tiny_llama)
    freeze(model)
    expected = model(**data()[0]).logits
    half = copy.deepcopy(model).to(torch.bfloat16)
    layer = half.model.layers[0].self_attn.q_proj
    assert layer.weight_scale.dtype == layer.input_scale.dtype == torch.float32
    assert metrics.sqnr_db(expected, half(**data()[0]).logits.float()) > 30


def test_a_channel_of_zeros_is_no_error():
    linear = nn.Linear(8, 4)
    linear.weight.data[:, 3] = 0
    linear.weight.data[2] = 0
    model = nn.Sequential(linear)
    quantize(model, qint8, qint8)
    x = torch.randn(5, 8)
    x[:, 3] = 0
    with torch.no_grad(), Calibration(model):
        model(x)
    freeze(model)
    torch.testing.assert_close(model(x)[:, 2], linear.bias[2].detach().expand(5))


@pytest.mark.parametrize("activations", [None, TOKEN], ids=["weight-only", "token"])
def test_a_tied_head_is_left_alone_unless_it_is_named(tiny_llama, activations):
    model = copy.deepcopy(tiny_llama)
    names = quantize(model, qint8, activations)
    assert len(names) == 14
    assert not {"lm_head", "model.embed_tokens"} & set(names)
    model = copy.deepcopy(tiny_llama)
    names = quantize(model, qint8, activations, include="*")
    assert {"lm_head", "model.embed_tokens"} < set(names)
    freeze(model)
    head, embedding = model.lm_head.weight, model.model.embed_tokens.weight
    assert head.data_.data_ptr() == embedding.data_.data_ptr(), "one copy of the integers"
    assert torch.equal(head.dequantize(), embedding.dequantize())
    again = copy.deepcopy(tiny_llama)
    requantize(again, model.state_dict(), quantization_map(model))
    assert torch.equal(again(**data()[0]).logits, model(**data()[0]).logits)


def test_a_bare_layer_has_no_place_to_be_replaced_in():
    with pytest.raises(WorkbenchError, match=r"wrap it in nn\.Sequential"):
        quantize(nn.Linear(2, 2))


# Calibration


def test_momentum_is_an_exponential_moving_average():
    model = nn.Sequential(nn.Linear(2, 2))
    quantize(model, qint8, QuantArgs(granularity="tensor", observer="momentum"))
    with torch.no_grad(), Calibration(model, momentum=0.75):
        for peak in (4.0, 8.0, 2.0):
            model(torch.tensor([[peak, -1.0]]))
    freeze(model)
    expected = 0.75 * (0.75 * 4 + 0.25 * 8) + 0.25 * 2
    assert model[0].input_scale.item() == pytest.approx(expected / 127, rel=1e-6)


def test_max_does_not_forget():
    model = nn.Sequential(nn.Linear(2, 2))
    quantize(model, qint8, qint8)
    with torch.no_grad(), Calibration(model):
        for peak in (4.0, 8.0, 2.0):
            model(torch.tensor([[peak, -1.0]]))
    freeze(model)
    assert model[0].input_scale.item() == pytest.approx(8 / 127, rel=1e-6)


def test_padding_does_not_widen_the_range():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x, attention_mask=None):
            return self.linear(x)

    model = Masked()
    quantize(model, qint8, qint8)
    x = torch.tensor([[[1.0, 2.0], [900.0, 1.0]]])
    with torch.no_grad(), Calibration(model):
        model(x=x, attention_mask=torch.tensor([[1, 0]]))
    freeze(model)
    assert model.linear.input_scale.item() == pytest.approx(2 / 127)


def test_calibration_reaches_its_model_and_its_thread_only():
    inside, outside = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
    for model in (inside, outside):
        quantize(model, qint8, qint8)
    with torch.no_grad(), Calibration(inside):
        inside(torch.ones(1, 2))
        outside(torch.ones(1, 2))
        other = threading.Thread(target=lambda: inside(torch.full((1, 2), 50.0)))
        other.start()
        other.join()
    assert not outside[0].calibrated
    freeze(inside)
    assert inside[0].input_scale.item() == pytest.approx(1 / 127)


# Refusals


def test_freezing_before_calibration_names_the_layer_and_changes_nothing(tiny_llama):
    model = copy.deepcopy(tiny_llama)
    quantize(model, qint8, qint8, exclude="lm_head")
    with pytest.raises(WorkbenchError, match=r"14 of 14.*layers\.0\.self_attn\.q_proj"):
        freeze(model)
    assert not any(m.frozen for m in model.modules() if isinstance(m, QLinear))


def test_uncalibrated_layers_can_go_dynamic(tiny_llama):
    """They compute what layers that were dynamic from the start compute, bit for bit."""
    missed, dynamic = copy.deepcopy(tiny_llama), quantized(tiny_llama, TOKEN)
    quantize(missed, qint8, qint8, exclude="lm_head")
    freeze(missed, uncalibrated="dynamic")
    freeze(dynamic)
    assert torch.equal(missed(**data()[0]).logits, dynamic(**data()[0]).logits)


def test_uncalibrated_layers_can_leave_their_inputs_in_float(tiny_llama):
    """They compute what weight-only layers compute, bit for bit; the weights stay integers."""
    missed, weight_only = copy.deepcopy(tiny_llama), quantized(tiny_llama, None)
    quantize(missed, qint8, qint8, exclude="lm_head")
    freeze(missed, uncalibrated="float")
    freeze(weight_only)
    assert torch.equal(missed(**data()[0]).logits, weight_only(**data()[0]).logits)
    assert quantization_map(missed) == quantization_map(weight_only)
    assert missed.state_dict()["model.layers.0.mlp.up_proj.weight"].dtype == torch.int8


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_named_and_nothing_changes(tiny_llama, bad):
    tiny_llama.model.layers[1].mlp.down_proj.weight.data[3, 4] = bad
    with pytest.raises(WorkbenchError, match=r"layers\.1\.mlp\.down_proj\.weight holds"):
        quantize(tiny_llama, qint8, qint8)
    assert not any(isinstance(m, QLinear) for m in tiny_llama.modules())


@pytest.mark.parametrize(
    ("weights", "activations", "message"),
    [
        ("int9", "int8", "'int9' is no known number type; allowed: int2, .*int8"),
        (None, None, "weights, activations and outputs are all None"),
        (TOKEN, "int8", "weights per token, dynamic=True, make no sense"),
        ("int8", QuantArgs(granularity="channel"), "activations per channel cannot"),
        ("int8", "int4", "activations=int4 is too short; allowed: int8, float8_e4m3fn"),
        (QuantArgs(granularity="group", group_size=5), None, r"group_size 5 .*layers\.0.*None"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_changes(
    tiny_llama, weights, activations, message
):
    with pytest.raises(WorkbenchError, match=message):
        quantize(tiny_llama, weights, activations)
    assert not any(isinstance(m, QLinear) for m in tiny_llama.modules())


@pytest.mark.parametrize("name", ["median", ""])
def test_an_optimizer_that_is_unknown_is_refused(tiny_llama, name):
    with pytest.raises(
        WorkbenchError, match=r"unknown optimizer .* allowed: absmax, max, mse, hqq"
    ):
        quantize(tiny_llama, "int4", optimizer=name)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"optimizer": HqqOptimizer}, r"HqqOptimizer'> is no optimizer; give one such as"),
        ({"optimizer": 3}, "optimizer=3 is no optimizer"),
        ({"include": 3}, "3 is no pattern of names"),
        ({"exclude": ["*", 3]}, "is no pattern of names"),
    ],
)
def test_what_is_of_another_kind_is_refused(tiny_llama, how, message):
    with pytest.raises(WorkbenchError, match=message):
        quantize(tiny_llama, "int4", **how)
    assert not any(isinstance(m, QLinear) for m in tiny_llama.modules())


def test_quantizing_twice_is_refused(tiny_llama):
    quantize(tiny_llama, "int4")
    with pytest.raises(WorkbenchError, match="all of them are already"):
        quantize(tiny_llama, "int8")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_calibrating_on_what_is_not_finite_names_the_layer(tiny_llama, bad):
    quantize(tiny_llama, qint8, qint8)
    with (
        torch.no_grad(),
        Calibration(tiny_llama),
        pytest.raises(WorkbenchError, match=r"layers\.0\.self_attn\.q_proj was given values"),
    ):
        tiny_llama(inputs_embeds=torch.full((1, 4, 32), bad))


def test_patterns_that_match_nothing_are_refused(tiny_llama):
    with pytest.raises(WorkbenchError, match="widen the patterns"):
        quantize(tiny_llama, qint8, qint8, include="encoder.*")


@pytest.mark.parametrize(
    "values",
    [
        {"dtype": "int5"},
        {"granularity": "group", "group_size": 0},
        {"group_size": 32},
        {"dtype": "float8", "symmetric": False},
        {"granularity": "token"},
        {"observer": "median"},
        {"bits": 8},
    ],
)
def test_arguments_are_validated_at_the_door(values):
    with pytest.raises(ValidationError):
        QuantArgs(**values)


def test_a_checkpoint_that_does_not_fit_names_the_tensor(tiny_llama):
    model = quantized(tiny_llama)
    freeze(model)
    state, layout = model.state_dict(), quantization_map(model)
    name = "model.layers.0.mlp.up_proj.weight"
    cases = {
        "lacks": {k: v for k, v in state.items() if k != name},
        "shape": state | {name: state[name][:5]},
        "needs torch.int8": state | {name: state[name].float()},
        "no place": state | {"model.extra": torch.ones(1)},
    }
    for message, broken in cases.items():
        fresh = copy.deepcopy(tiny_llama)
        with pytest.raises(WorkbenchError, match=message):
            requantize(fresh, broken, layout)
        assert not any(isinstance(m, QLinear) for m in fresh.modules())


def test_training_goes_straight_through():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3))
    quantize(model, qint8, TOKEN)
    x = torch.randn(4, 6, requires_grad=True)
    model(x).sum().backward()
    torch.testing.assert_close(model[0].bias.grad, torch.full((3,), 4.0))
    assert model[0].weight.grad.abs().sum() > 0
    assert x.grad.abs().sum() > 0


def test_debugging_a_calibration_logs_each_range_by_name(caplog):
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    quantize(model, qint8, qint8)
    with caplog.at_level("INFO"), torch.no_grad(), Calibration(model, debug=True, streamline=False):
        model(torch.tensor([[-3.0, 0.5]]))
    assert caplog.messages == ["0: -3 to 0.5"]


def test_an_op_can_be_pinned_and_computes_the_same_bits():
    torch.manual_seed(0)
    x, found = torch.randn(5, 64), []
    for op in (None, "a8_linear_int_mm", "a8_linear_reference"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32))
        quantize(model, "int8", QuantArgs(granularity="token", dynamic=True))
        freeze(model, op=op)
        assert op is None or model[0].op == op
        found.append(model(x))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    with pytest.raises(WorkbenchError, match=r"op='fast' is unknown; allowed: a8_linear_native"):
        freeze(model, op="fast")
