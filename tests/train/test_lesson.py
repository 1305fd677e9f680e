"""A teacher beside the same trainer: its losses, its accelerators, its checkpoints."""

import pytest
import torch
from torch.utils.data import IterableDataset
from transformers import BertConfig, BertForSequenceClassification

import workbench as wb
from tests.train.helpers import Sentences, build, losses, pad_to_longest, tiny_bert
from workbench import WorkbenchTrainer, WorkbenchTrainingArguments
from workbench.errors import WorkbenchError
from workbench.recipe import QuantizationSpec
from workbench.train.distillation import Distillation, soft_divergence

ALL = Distillation(labels=0.5, hidden=1.0, attention=1.0)


def teacher(**values) -> BertForSequenceClassification:
    """Wider, with more heads and layers than the student."""
    torch.manual_seed(1)
    shape = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 4,
             "num_attention_heads": 4, "max_position_embeddings": 64}  # fmt: skip
    return BertForSequenceClassification(BertConfig(**(shape | values)))


def test_the_loss_of_a_step_is_its_definition(tmp_path) -> None:
    student, shown = tiny_bert(), teacher()
    batch = pad_to_longest(Sentences().rows[:8])
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    shown.eval()
    with torch.no_grad():
        wanted = soft_divergence(student(**inputs).logits, shown(**inputs).logits, 2.0, None)
    trainer = build(WorkbenchTrainer, tmp_path, student, teacher=shown, max_steps=1,
                    accelerate="none", train_sampling_strategy="sequential")  # fmt: skip
    trainer.train()
    assert losses(trainer) == pytest.approx([float(wanted)], rel=1e-4)


def test_a_resumed_lesson_ends_as_one_that_was_not_interrupted(tmp_path) -> None:
    """Its projections are in the checkpoint, and in no model afterwards."""
    shown = teacher()
    before = {name: value.clone() for name, value in shown.state_dict().items()}
    found = []
    for folder in ("a", "b"):
        trainer = build(
            WorkbenchTrainer, tmp_path / folder, teacher=shown, distillation=ALL, max_steps=14,
            save_strategy="steps", save_steps=11, accelerate=["by_length", "heap", "attention"],
        )  # fmt: skip
        names = list(trainer.model.state_dict())
        trainer.train(
            resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-11") if found else None
        )
        assert trainer.choices.kept == ("by_length", "heap")
        assert list(trainer.model.state_dict()) == names
        assert {m.config._attn_implementation for m in (trainer.model, shown)} == {"sdpa"}
        found.append(trainer)
    assert losses(found[1]) == pytest.approx(losses(found[0]), rel=1e-5)
    assert losses(found[0])[-1] < losses(found[0])[0]
    assert all(torch.equal(value, before[name]) for name, value in shown.state_dict().items())
    assert found[1].evaluate()["eval_loss"] == pytest.approx(found[0].evaluate()["eval_loss"])


def test_a_float_teacher_teaches_its_quantized_self(tmp_path) -> None:
    """Aware of 2 bits, the student comes back towards the teacher, and freezes."""
    shown, student = tiny_bert(), tiny_bert()
    for model in (shown, student):
        for layer in model.bert.encoder.layer.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.data *= 10  # as drawn, layers hardly add to the residual stream
    spec = QuantizationSpec(
        weights=wb.QuantArgs(dtype="int2"), activations=None, exclude=("classifier",)
    )
    trainer = build(WorkbenchTrainer, tmp_path, student, teacher=shown, quantization=spec,
                    distillation=Distillation(hidden=1.0), max_steps=30, learning_rate=1e-3,
                    accelerate="none")  # fmt: skip
    trainer.train()
    assert student.bert.encoder.layer[0].attention.self.query.frozen
    assert losses(trainer)[-1] < 0.7 * losses(trainer)[0]


def test_each_new_model_of_a_search_is_taught(tmp_path) -> None:
    def fresh():
        return tiny_bert()

    trainer = build(WorkbenchTrainer, tmp_path, model_init=fresh, teacher=teacher(),
                    distillation=ALL, accelerate="none")  # fmt: skip
    trainer.train()
    first = losses(trainer)
    trainer.train()
    assert losses(trainer) == pytest.approx(first, rel=1e-6)


class Stream(IterableDataset):
    def __iter__(self):
        yield from Sentences()


def test_maps_that_processes_would_learn_apart_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(WorkbenchTrainingArguments, "world_size", 2)
    with pytest.raises(WorkbenchError, match="which 2 processes would each learn"):
        build(WorkbenchTrainer, tmp_path, teacher=teacher(), distillation=ALL)
    build(WorkbenchTrainer, tmp_path, teacher=teacher())  # of its logits alone


def test_what_does_not_fit_is_refused(tmp_path) -> None:
    with pytest.raises(WorkbenchError, match="gives 2 classes or tokens and the teacher 3"):
        build(WorkbenchTrainer, tmp_path, teacher=teacher(num_labels=3))
    with pytest.raises(WorkbenchError, match="give a teacher as well"):
        build(WorkbenchTrainer, tmp_path, distillation=ALL)
    with pytest.raises(WorkbenchError, match="a stream, of which no row"):
        build(WorkbenchTrainer, tmp_path, teacher=teacher(), train_dataset=Stream())
