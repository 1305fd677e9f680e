"""Quantization-aware training is the same trainer, and freezing keeps what it reached."""

import pytest
import torch

import workbench as wb
from tests.train.helpers import Sentences, build, losses, pad_to_longest, tiny_bert
from workbench import WorkbenchTrainer
from workbench.errors import WorkbenchError
from workbench.recipe import QuantizationSpec
from workbench.train import qat

INT4 = wb.QuantArgs(dtype="int4", granularity="channel")


@pytest.mark.parametrize(
    "activations", [None, wb.QuantArgs(granularity="tensor")], ids=["weights", "static"]
)
def test_the_frozen_model_evaluates_as_it_did_at_the_last_step(tmp_path, activations) -> None:
    spec = QuantizationSpec(weights=INT4, activations=activations, exclude=("classifier",))
    model = tiny_bert()
    before = model.bert.encoder.layer[0].attention.self.query.weight.detach().clone()
    trainer = build(WorkbenchTrainer, tmp_path, model, quantization=spec, max_steps=30,
                    eval_strategy="steps", eval_steps=30, learning_rate=3e-3)  # fmt: skip
    query = model.bert.encoder.layer[0].attention.self.query
    assert any(name.endswith("weight_scale") for name, _ in model.named_parameters())
    trainer.train()
    assert query.frozen
    assert not torch.equal(query.weight.dequantize(), before)
    said = next(row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(said, rel=1e-4)
    assert losses(trainer)[-1] < losses(trainer)[0]
    trainer.save_model(tmp_path / "saved")
    saved = wb.load(tmp_path / "saved").model
    batch = pad_to_longest(Sentences(4).rows)
    assert torch.equal(saved(**batch).logits, model.eval()(**batch).logits)
    with pytest.raises(WorkbenchError, match="is frozen"):
        trainer.train()


def test_a_model_that_was_quantized_before_has_the_loss_of_finetune(tmp_path) -> None:
    model, other = tiny_bert(), tiny_bert()
    for one in (model, other):
        wb.quantize(one, INT4, exclude="classifier")
    trainer = build(WorkbenchTrainer, tmp_path, model, max_steps=1, accelerate="none",
                    train_sampling_strategy="sequential")  # fmt: skip
    trainer.train()
    curve = qat.finetune(other, [pad_to_longest(Sentences().rows[:8])], steps=1)
    assert losses(trainer) == pytest.approx(curve.losses, rel=1e-6)


def test_no_scale_decays(tmp_path) -> None:
    model = tiny_bert()
    wb.quantize(model, INT4)
    trainer = build(WorkbenchTrainer, tmp_path, model)
    names = trainer.get_decay_parameter_names(model)
    assert names
    assert not any("scale" in name for name in names)


def test_a_resumed_quantized_run_ends_as_one_that_was_not_interrupted(tmp_path) -> None:
    spec = QuantizationSpec(weights=INT4, activations=None)
    found = []
    for folder in ("a", "b"):
        trainer = build(WorkbenchTrainer, tmp_path / folder, quantization=spec,
                        save_strategy="steps", save_steps=3)  # fmt: skip
        trainer.train(
            resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3") if found else None
        )
        found.append(trainer)
    assert losses(found[1]) == pytest.approx(losses(found[0]), rel=1e-5)
    assert found[1].evaluate()["eval_loss"] == pytest.approx(found[0].evaluate()["eval_loss"])


def test_a_section_for_sessions_is_refused_before_anything_changes(tmp_path) -> None:
    model = tiny_bert()
    spec = QuantizationSpec(weights=INT4, algorithms={"*": ("gptq",)})
    with pytest.raises(WorkbenchError, match="chosen by a session"):
        build(WorkbenchTrainer, tmp_path, model, quantization=spec)
    assert not wb.quantization_map(model)


def test_divided_weights_are_refused_before_anything_changes(tmp_path, monkeypatch) -> None:
    def divide(trainer) -> None:
        trainer.is_fsdp_enabled = True

    monkeypatch.setattr("workbench.train.trainer.shard_on_processors", divide)
    model = tiny_bert()
    spec = QuantizationSpec(weights=INT4, activations=None)
    with pytest.raises(WorkbenchError, match="freezing need them whole: leave fsdp out"):
        build(WorkbenchTrainer, tmp_path, model, quantization=spec)
    assert not wb.quantization_map(model)
