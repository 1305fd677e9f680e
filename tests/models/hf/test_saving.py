"""What `save_pretrained`, Trainer and quanto's own class write, and reading it back."""

import json

import pytest
import torch
from hf_runs import BATCH, frozen, logits
from transformers import AutoModelForCausalLM

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.models import load, save
from workbench.quant import QModule


@pytest.mark.parametrize("weights", ["int4", "int8", "float8_e5m2"])
def test_save_pretrained_and_back(folder, tmp_path, weights):
    config = wb.WorkbenchConfig(weights=weights)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config)
    model.save_pretrained(tmp_path / "two", max_shard_size="20KB")
    assert len(list((tmp_path / "two").glob("*.safetensors"))) > 1
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "two")
    assert torch.equal(logits(back), logits(model))
    assert torch.equal(logits(load(tmp_path / "two").model), logits(model))
    back.save_pretrained(tmp_path / "three", max_shard_size="20KB")
    for path in (tmp_path / "two").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "three" / path.name).read_bytes()


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_what_was_frozen_here_saves_itself_too(tiny_llama, tmp_path, weights):
    model = frozen(tiny_llama, weights, "int8")
    model.save_pretrained(tmp_path / "out")
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(back), logits(model))
    wb.dequantize(model)
    model.save_pretrained(tmp_path / "float")
    assert "quantization_config" not in json.loads((tmp_path / "float" / "config.json").read_text())
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "float")
    assert torch.equal(logits(back), logits(model))


def test_trainer_trains_what_stayed_in_float(folder, tmp_path):
    from transformers import Trainer, TrainingArguments

    config = wb.WorkbenchConfig(weights="int4")
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config)
    before = {n: p.clone() for n, p in model.named_parameters()}
    integers = {n: b.clone() for n, b in model.named_buffers() if n.endswith("_packed")}
    rows = [{"input_ids": ids, "labels": ids} for ids in BATCH["input_ids"]]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "runs"),
        max_steps=3,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    assert all(not torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert all(torch.equal(b, integers[n]) for n, b in model.named_buffers() if n in integers)
    trainer.save_model(str(tmp_path / "out"))
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(back), logits(model.eval()))


def test_quantos_class(tiny_llama, folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(folder)
    made = wb.QuantizedModelForCausalLM.quantize(model, weights=wb.qint4, exclude="lm_head")
    made.save_pretrained(tmp_path / "out")
    back = wb.QuantizedModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(back), logits(made))
    assert back.config.vocab_size == 97
    ids = BATCH["input_ids"][:1, :4]
    assert back.generate(ids, max_new_tokens=2).shape == (1, 6)
    with pytest.raises(WorkbenchError, match="no quantized"):
        wb.QuantizedModelForCausalLM(tiny_llama)
    with pytest.raises(WorkbenchError, match="never calibrated"):
        wb.QuantizedModelForCausalLM.quantize(tiny_llama, "int8", "int8")


def test_dequantize_gives_a_float_model(tiny_llama, tmp_path):
    model = frozen(tiny_llama, "float8_e5m2")
    save(model, tmp_path)
    back = AutoModelForCausalLM.from_pretrained(tmp_path)
    back.dequantize()
    assert not any(isinstance(m, QModule) for m in back.modules())
    assert (logits(back) - logits(model)).abs().max() < 1e-5
    back.save_pretrained(tmp_path / "float")
    assert "quantization_config" not in json.loads((tmp_path / "float" / "config.json").read_text())
