"""Predicted damage against what full evaluations measure."""

import copy
import math
import sys

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional as F

import workbench as wb
from workbench.metrics import kl_divergence
from workbench.tune import Sensitivity, cached, sensitivity, widths


class Softmax(nn.Module):
    """One linear and a softmax: its Fisher information is known."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(16, 5)

    def forward(self, x, labels=None):
        logits = self.body(x)
        return type("Output", (dict,), {"logits": logits})(logits=logits)


def test_one_layer_s_damage_is_its_kl():
    """For small changes dy of the logits KL = 1/2 dy (diag(p) - p p^T) dy; draws average to it."""
    torch.manual_seed(0)
    model = Softmax()
    batches = [{"x": torch.randn(2000, 16)} for _ in range(4)]
    args = wb.QuantArgs(dtype="int6", granularity="channel", symmetric=False)
    found = sensitivity(model, batches, [args], exclude=None, tokens=8000)
    damage = next(iter(found.layers["body"].values()))
    rounded = copy.deepcopy(model)
    wb.quantize(rounded, args)
    with torch.no_grad():
        pairs = [(model(**b).logits, rounded(**b).logits) for b in batches]
    expected = torch.cat([kl_divergence(*pair) for pair in pairs]).mean()
    assert found.measure == "kl"
    assert found.positions == 8000
    assert damage.output == pytest.approx(float(expected), rel=0.08)  # 8000 draws: sd about 2 %
    y, z = (torch.cat(side).double() for side in zip(*pairs, strict=True))
    signal = (y - model.body.bias.detach()).square().sum()
    sqnr = 10 * math.log10(float(signal / (y - z).square().sum()))
    # Of 1024 tokens: signal and noise each to about sqrt(2 / 1024), if all outputs were alike.
    assert damage.sqnr_db == pytest.approx(sqnr, abs=0.5)


def test_without_logits_it_is_the_relative_error_of_the_output():
    torch.manual_seed(1)

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(16, 32)

        def forward(self, x):
            return self.body(x)

    model, x = Plain(), torch.randn(4000, 16)
    args = wb.QuantArgs(dtype="int4", granularity="channel", symmetric=False)
    found = sensitivity(model, [{"x": x}], [args], exclude=None, tokens=4000)
    rounded = copy.deepcopy(model)
    wb.quantize(rounded, args)
    with torch.no_grad():
        y, z = model(x), rounded(x)
    expected = float((y - z).square().sum() / y.square().sum())
    damage = next(iter(found.layers["body"].values()))
    assert damage.output == pytest.approx(expected, rel=0.1)
    assert found.measure == "relative error"


def test_a_task_s_rise_is_its_first_order():
    torch.manual_seed(2)
    model = Softmax()
    batch = {"x": torch.randn(500, 16), "labels": torch.randint(0, 5, (500,))}

    def task(outputs, batch):
        return F.cross_entropy(outputs.logits, batch["labels"])

    args = wb.QuantArgs(dtype="int8")
    found = sensitivity(model, [batch], [args], exclude=None, tokens=500, task=task)
    rounded = copy.deepcopy(model)
    wb.quantize(rounded, args)
    with torch.no_grad():
        rise = float(task(rounded(**batch), batch) - task(model(**batch), batch))
    assert next(iter(found.layers["body"].values())).task == pytest.approx(rise, rel=0.1, abs=1e-7)


def test_the_model_is_left_as_it_was(tiny_llama):
    tiny_llama.model.layers[0].mlp.up_proj.weight.requires_grad_(False)
    asked = [p.requires_grad for p in tiny_llama.parameters()]
    before = {k: v.clone() for k, v in tiny_llama.state_dict().items()}
    ids = torch.arange(40).view(2, 20)
    found = sensitivity(tiny_llama, [{"input_ids": ids}], tokens=40)
    assert [p.requires_grad for p in tiny_llama.parameters()] == asked
    assert all(p.grad is None for p in tiny_llama.parameters())
    assert all(torch.equal(v, before[k]) for k, v in tiny_llama.state_dict().items())
    assert not any(m._forward_hooks for m in tiny_llama.modules())
    assert len(found.layers) == 14


def test_all_sequences_are_kept_that_fit_in_memory(tiny_llama, monkeypatch):
    """Eight sequences of 20 tokens, of which a budget for 50 holds three."""
    module = sys.modules["workbench.tune.sensitivity"]
    kept = []

    class Spy(module.Probe):
        def damages(self, name, errors):
            kept.append(sum(len(x) for x in self.samples[name].x))
            return super().damages(name, errors)

    monkeypatch.setattr(module, "Probe", Spy)
    batches = [{"input_ids": torch.arange(160).view(8, 20) % 97}]
    sensitivity(tiny_llama, batches, ["int4"])
    assert set(kept) == {8}
    linears = [m for m in tiny_llama.model.modules() if isinstance(m, nn.Linear)]
    widths = [(min(m.weight.shape), max(m.weight.shape)) for m in linears]
    token = sum(2 * (narrow + 2 * wide) for narrow, wide in widths)
    monkeypatch.setattr(module, "MEMORY", 50 * token)
    kept.clear()
    sensitivity(tiny_llama, batches, ["int4"])
    assert set(kept) == {3}


def test_readers_of_one_tensor_share_bits(tiny_llama):
    found = sensitivity(tiny_llama, [{"input_ids": torch.arange(40).view(2, 20)}], tokens=40)
    attention, mlp = "model.layers.{}.self_attn.{}_proj", "model.layers.{}.mlp.{}_proj"
    assert set(found.shared) == {
        tuple(name.format(i, part) for part in parts)
        for i in range(2)
        for name, parts in ((attention, "qkv"), (mlp, ("gate", "up")))
    }


def test_it_survives_its_file_and_is_computed_once(tiny_llama, tmp_path):
    runs = []

    def compute():
        runs.append(1)
        return sensitivity(tiny_llama, [{"input_ids": torch.arange(40).view(2, 20)}], tokens=40)

    first = cached(Sensitivity, tmp_path / "deep" / "s.json", compute)
    assert cached(Sensitivity, tmp_path / "deep" / "s.json", compute) == first
    assert len(runs) == 1
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(wb.WorkbenchError, match=r"bad\.json cannot be read as sensitivity"):
        Sensitivity.load(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batches": []}, "no batches"),
        ({"candidates": []}, "no candidates"),
        ({"candidates": ["int4", "int4"]}, "is given twice"),
        ({"include": "model.embed_tokens"}, "none of the 1 chosen layers is a linear"),
    ],
)
def test_refusals(tiny_llama, arguments, message):
    given = {"batches": [{"input_ids": torch.arange(8).view(1, 8)}], **arguments}
    with pytest.raises(wb.WorkbenchError, match=message):
        sensitivity(tiny_llama, **given)


@pytest.mark.slow
def test_predicted_damage_ranks_layers_and_widths_of_pylm_as_measured():
    """Each of 28 layers alone at 2 and at 4 bits, on held-out text."""
    lm = wb.load("pylm")
    calibration = lm.batches("calibration", samples=16, length=128, seed=0)
    evaluation = lm.batches("evaluation", samples=8, length=128, seed=0)
    found = sensitivity(lm.model, calibration, ["int2", "int4"], tokens=2048)
    predicted, measured = [], []
    with torch.no_grad():
        reference = [lm.model(**batch).logits for batch in evaluation]
        for name, damages in found.layers.items():
            for key, damage in damages.items():
                model = lm.copy()
                wb.quantize(model, found.candidates[key], include=name)
                logits = [model(**batch).logits for batch in evaluation]
                pairs = zip(reference, logits, strict=True)
                measured.append(float(torch.cat([kl_divergence(*p).mean(1) for p in pairs]).mean()))
                predicted.append(damage.output)
    assert spearmanr(predicted, measured).statistic > 0.9
    assert sum(predicted) == pytest.approx(sum(measured), rel=0.5)


@pytest.mark.parametrize(
    "args", widths(wb.QuantArgs(granularity="group", symmetric=False)), ids=str
)
def test_bytes_are_those_of_the_saved_layer(args):
    found = sensitivity(Softmax(), [{"x": torch.randn(20, 16)}], [args], exclude=None)
    frozen = Softmax()
    wb.quantize(frozen, args)
    wb.freeze(frozen)
    saved = (t for name, t in frozen.state_dict().items() if name != "body.bias")
    damage = next(iter(found.layers["body"].values()))
    assert damage.bytes == sum(tensor.nbytes for tensor in saved)
