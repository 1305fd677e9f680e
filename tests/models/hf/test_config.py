"""What `WorkbenchConfig` says is what `from_pretrained` does, before and after JSON."""

import json

import pytest
import torch
from hf_runs import TOKEN, logits
from transformers import AutoModelForCausalLM

import workbench as wb
from workbench.quant import QLayerNorm, QModule

SAID = {
    "outputs": {"weights": "int8", "outputs": TOKEN},
    "static outputs": {"weights": None, "outputs": "int8", "exclude": ["*layers.0*"]},
    "only outputs": {"weights": None, "outputs": TOKEN, "include": "*norm"},
    "only activations": {"weights": None, "activations": TOKEN},
    "static activations": {"weights": None, "activations": "int8"},
    "optimizer": {"weights": "int4", "optimizer": "hqq"},
    "everything": {"weights": "int4", "activations": "int8", "optimizer": "max", "outputs": "int8"},
}


def finished(model):
    """Calibrated and frozen, where it is not yet."""
    if not all(m.frozen for m in model.modules() if isinstance(m, QModule)):
        with wb.Calibration(model):
            logits(model)
        wb.freeze(model)
    return model


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_it_is_obeyed_and_survives_json(tiny_llama, tmp_path, said):
    tiny_llama.save_pretrained(tmp_path / "float")
    config = wb.WorkbenchConfig(**said)
    again = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
    assert again.to_dict() == config.to_dict()
    made = [
        finished(AutoModelForCausalLM.from_pretrained(tmp_path / "float", quantization_config=c))
        for c in (config, again)
    ]
    wb.quantize(tiny_llama, **said)
    expected = finished(tiny_llama)
    for model in made:
        assert wb.quantization_map(model) == wb.quantization_map(expected)
        assert torch.equal(logits(model), logits(expected))
    norms = [m for m in made[0].modules() if isinstance(m, QLayerNorm)]
    assert bool(norms) == ("outputs" in said)
    made[0].save_pretrained(tmp_path / "saved")
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(logits(back), logits(expected))


def test_an_optimizer_decides_the_scales(tiny_llama, tmp_path):
    tiny_llama.save_pretrained(tmp_path)
    made = [
        AutoModelForCausalLM.from_pretrained(
            tmp_path, quantization_config=wb.WorkbenchConfig("int4", optimizer=name)
        )
        for name in (None, "mse", "max")
    ]
    assert torch.equal(logits(made[0]), logits(made[1]))
    assert not torch.equal(logits(made[0]), logits(made[2]))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"optimizer": "median"}, "unknown optimizer 'median'; allowed: absmax, max, mse, hqq"),
        ({"weights": "int9"}, "'int9' is no known number type"),
        ({"outputs": "int4"}, "activations=int4 is too short"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(said, message):
    with pytest.raises(wb.WorkbenchError, match=message):
        wb.WorkbenchConfig(**said)
