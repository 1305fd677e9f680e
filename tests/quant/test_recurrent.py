"""torch's recurrent layers: their weights become integers, and nothing keeps the float ones."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.models import load_into

KINDS = {
    "lstm": lambda: nn.LSTM(16, 24, 2, bidirectional=True),
    "projected": lambda: nn.LSTM(16, 24, proj_size=8),
    "gru": lambda: nn.GRU(16, 24, bias=False),
    "rnn": lambda: nn.RNN(16, 24, nonlinearity="relu"),
}


class Holder(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.inner = KINDS[kind]()

    def forward(self, x):
        return self.inner(x)[0]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.mark.parametrize("weights", ["int4", "int8", "float8"])
def test_frozen_is_the_float_layer_of_the_dequantized_weights(kind, weights, tmp_path):
    torch.manual_seed(0)
    model, x = Holder(kind), torch.randn(5, 2, 16)
    truth = copy.deepcopy(model)
    wb.quantize(model, weights)
    with torch.no_grad():
        unfrozen = model(x)
    wb.freeze(model)
    names = set(model.inner.weight_names)
    assert names == {n for n, p in truth.inner.named_parameters() if p.dim() == 2}
    for name in names:
        getattr(truth.inner, name).data.copy_(getattr(model.inner, name).dequantize())
    found = model(x)
    torch.testing.assert_close(found, truth(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, unfrozen, rtol=1e-5, atol=1e-6)
    assert torch.equal(copy.deepcopy(model)(x), found)

    wb.save(model, tmp_path)
    loaded = load_into(Holder(kind), tmp_path)
    assert torch.equal(loaded(x), found)
    wb.dequantize(loaded)
    assert type(loaded.inner) is type(truth.inner)
    torch.testing.assert_close(loaded(x), truth(x))

    half = model.to(torch.bfloat16)(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.cosine_similarity(half.float().flatten(), found.flatten(), 0) > 0.999


def test_the_float_weights_are_let_go(kind):
    model = Holder(kind)
    kept = [weakref.ref(p) for n, p in model.inner.named_parameters() if p.dim() == 2]
    wb.quantize(model, "int8")
    wb.freeze(model)
    gc.collect()
    assert not any(ref() is not None for ref in kept)
    assert wb.coverage(model).share == 1


def test_gradients_reach_the_float_weights(kind):
    model = Holder(kind)
    wb.quantize(model, "int4")
    model(torch.randn(5, 2, 16)).square().sum().backward()
    parameters = dict(model.named_parameters())
    assert parameters
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters.values())
