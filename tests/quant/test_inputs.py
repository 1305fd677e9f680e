"""Activations alone: inputs are rounded and weights stay the float ones."""

import copy

import pytest
import torch
from torch import nn
from zoo import ZOO

import workbench as wb
from workbench.models import load_into
from workbench.quant import QModule, TransformedLinear

SCHEMES = {
    "static": "int8",
    "affine": wb.QuantArgs(granularity="tensor", symmetric=False),
    "float8": "float8",
    "token": wb.QuantArgs(granularity="token", dynamic=True),
}


def frozen(model, activations, batches):
    model = copy.deepcopy(model)
    wb.quantize(model, weights=None, activations=activations)
    with torch.no_grad(), wb.Calibration(model):
        for batch in batches:
            model(**batch)
    wb.freeze(model, uncalibrated="float")
    return model


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv1d(4, 6, 3), nn.Linear(6, 5)
        self.embedding = nn.Embedding(3, 5)

    def forward(self, x, ids):
        return self.linear(self.conv(input=x).mT) + self.embedding(ids)[:, None]


def drawn():
    torch.manual_seed(0)
    return Small(), {"x": torch.randn(2, 4, 9), "ids": torch.tensor([0, 2])}


def rounded(x, scale):
    return (x * (1 / scale)).round().clamp(-128, 127) * scale


def test_it_computes_the_float_layer_of_rounded_inputs():
    model, batch = drawn()
    found = frozen(model, "int8", [batch])
    wide = batch["x"].abs().max() / 127
    hidden = model.conv(rounded(batch["x"], wide)).mT
    # The linear was calibrated on what the float convolution gave it.
    narrow = model.conv(batch["x"]).abs().max() / 127
    expected = model.linear(rounded(hidden, narrow)) + model.embedding(batch["ids"])[:, None]
    torch.testing.assert_close(found(**batch), expected)
    assert torch.equal(found.linear.weight, model.linear.weight)
    assert not isinstance(found.embedding, QModule)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_reloads_bit_for_bit(scheme, tmp_path):
    model, batch = drawn()
    saved = frozen(model, SCHEMES[scheme], [batch])
    wb.save(saved, tmp_path)
    loaded = load_into(Small(), tmp_path)
    assert wb.quantization_map(loaded) == wb.quantization_map(saved)
    assert torch.equal(loaded(**batch), saved(**batch))
    wb.dequantize(loaded)
    assert torch.equal(loaded(**batch), model(**batch))
    assert type(loaded.linear) is nn.Linear


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "whisper", "resnet"])
def test_it_reloads_through_transformers(name, tmp_path):
    case = ZOO[name]
    batches = case.batches(2)
    original = case.model()
    model = frozen(original, "int8", batches)
    rounding = [m for m in model.modules() if isinstance(m, QModule)]
    assert rounding
    assert all(m.weights is None and m.activations is not None for m in rounding)
    wb.save(model, tmp_path)
    loaded = type(original).from_pretrained(tmp_path)
    with torch.no_grad():
        outputs = [m(**batches[0]).to_tuple()[0] for m in (model, loaded, original)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.cosine_similarity(outputs[0].flatten(), outputs[2].flatten(), 0) > 0.99
    assert not torch.equal(outputs[0], outputs[2])


def test_the_slot_comes_before_rounding():
    torch.manual_seed(0)
    linear, transform, x = nn.Linear(6, 5), torch.rand(6) + 0.5, torch.randn(3, 6)
    model = nn.Sequential(TransformedLinear.from_linear(linear, linear.weight.detach(), transform))
    wb.quantize(model, None, "int8")
    with torch.no_grad(), wb.Calibration(model):
        model(x)
    wb.freeze(model)
    scaled = x * transform
    expected = linear(rounded(scaled, scaled.abs().max() / 127))
    torch.testing.assert_close(model(x), expected)
    fresh = nn.Sequential(nn.Linear(6, 5))
    wb.requantize(fresh, model.state_dict(), wb.quantization_map(model))
    assert torch.equal(fresh(x), model(x))
    wb.dequantize(fresh)
    torch.testing.assert_close(fresh(x), linear(scaled))


def test_scales_learn():
    model, batch = drawn()
    wb.quantize(model, None, "int8")
    with torch.no_grad(), wb.Calibration(model):
        model(**batch)
    scales = wb.learn_scales(model)
    assert len(scales) == 2
    model(**batch).square().sum().backward()
    assert all(scale.grad is not None for scale in scales)
    evaluated = model(**batch)
    wb.freeze(model)
    assert torch.equal(model(**batch), evaluated)


def test_what_has_no_inputs_to_round_is_refused():
    model, _ = drawn()
    with pytest.raises(wb.WorkbenchError, match="give a type for the weights"):
        wb.quantize(model, None, "int8", include="embedding")
    assert not any(isinstance(m, QModule) for m in model.modules())


def test_norms_alone():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    assert wb.quantize(model, None, outputs="int8") == ["1"]
    assert type(model[0]) is nn.Linear
