"""Both trainers give the same logs where no accelerator changes the numbers or the order.

The scenarios are those of transformers' own tests of its trainer.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import OfflineModeIsEnabled
from optuna.samplers import GridSampler
from transformers import (
    EarlyStoppingCallback,
    HfArgumentParser,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from tests.train.helpers import build, losses, tiny_bert
from workbench import WorkbenchTrainer, WorkbenchTrainingArguments
from workbench.errors import WorkbenchError

KINDS = pytest.mark.parametrize("kind", [Trainer, WorkbenchTrainer])


def both(tmp_path, kinds=(Trainer, WorkbenchTrainer), **keywords: Any) -> tuple[Trainer, Trainer]:
    """The two trainers after training, with all that changes no more than rounding."""
    found = []
    for kind in kinds:
        given = {name: made() if name == "callbacks" else made for name, made in keywords.items()}
        trainer = build(kind, tmp_path / kind.__name__, **given)
        trainer.train()
        found.append(trainer)
    return found[0], found[1]


def same_logs(one: Trainer, other: Trainer) -> None:
    logs = [
        [{k: v for k, v in row.items() if "runtime" not in k and "per_second" not in k} for row in
         trainer.state.log_history]
        for trainer in (one, other)
    ]  # fmt: skip
    assert len(logs[0]) == len(logs[1])
    for row, ours in zip(*logs, strict=True):
        assert ours == pytest.approx(row, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"gradient_accumulation_steps": 3}, id="accumulation"),
        pytest.param({"label_smoothing_factor": 0.1}, id="label smoothing"),
        pytest.param({"eval_strategy": "epoch", "num_train_epochs": 2, "max_steps": -1},
                     id="evaluation by epoch"),
        pytest.param({"eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True},
                     id="evaluation by steps"),
        pytest.param({"lr_scheduler_type": "cosine", "warmup_steps": 2, "weight_decay": 0.1,
                      "max_grad_norm": 0.1}, id="schedule"),
        pytest.param({"train_sampling_strategy": "group_by_length"}, id="group by length"),
        pytest.param({"neftune_noise_alpha": 0.1}, id="noise"),
        pytest.param({"dataloader_drop_last": True, "per_device_train_batch_size": 20,
                      "max_steps": 5}, id="drop last"),
        pytest.param({"include_num_input_tokens_seen": "non_padding"}, id="tokens seen"),
        pytest.param({"optim": "adamw_torch"}, id="plain AdamW"),
    ],
)  # fmt: skip
def test_the_same_arguments_give_the_same_logs(tmp_path, arguments) -> None:
    plain, ours = both(tmp_path, **arguments)
    same_logs(plain, ours)
    assert "heap" in ours.choices.kept
    for name, weight in plain.model.named_parameters():
        torch.testing.assert_close(
            dict(ours.model.named_parameters())[name], weight, rtol=1e-2, atol=1e-3
        )


def test_nothing_is_switched_on_with_none(tmp_path) -> None:
    found = []
    for kind in (Trainer, WorkbenchTrainer):
        model = tiny_bert(dropout=0.1)
        found.append(build(kind, tmp_path / kind.__name__, model, accelerate="none"))
        found[-1].train()
    plain, ours = found
    assert losses(ours) == losses(plain)
    assert ours.choices.rows == ()


class Order(TrainerCallback):
    """Writes down each event."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda *_, **__: self.events.append(name)
        return super().__getattribute__(name)


def test_callbacks_are_called_in_the_same_order(tmp_path) -> None:
    watchers = []

    def made() -> list[Order]:
        watchers.append(Order())
        return [watchers[-1]]

    both(tmp_path, callbacks=made, gradient_accumulation_steps=2, eval_strategy="steps",
         eval_steps=3, save_strategy="steps", save_steps=3)  # fmt: skip
    assert watchers[0].events == watchers[1].events
    assert {"on_substep_end", "on_evaluate", "on_save", "on_train_end"} <= set(watchers[0].events)


def test_early_stopping_stops_at_the_same_step(tmp_path) -> None:
    keywords = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps",
                "save_steps": 1, "save_total_limit": 1, "learning_rate": 0.3, "max_steps": 20,
                "load_best_model_at_end": True}  # fmt: skip
    plain, ours = both(
        tmp_path, callbacks=lambda: [EarlyStoppingCallback(early_stopping_patience=2)], **keywords
    )
    assert ours.state.global_step == plain.state.global_step < 20
    assert ours.state.best_global_step == plain.state.best_global_step
    same_logs(plain, ours)


@pytest.mark.parametrize(
    "accelerate", ["none", ["heap", "attention"], ["by_length", "heap"]], ids=str
)
@pytest.mark.parametrize("stopped", [3, 8, 11])
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(tmp_path, accelerate, stopped) -> None:
    """Also within a later epoch, where the order of the rows has to be found again."""
    keywords = {"max_steps": 14, "save_strategy": "steps", "save_steps": stopped,
                "accelerate": accelerate}  # fmt: skip
    whole = build(WorkbenchTrainer, tmp_path / "a", tiny_bert(dropout=0.1), **keywords)
    whole.train()
    part = build(WorkbenchTrainer, tmp_path / "b", tiny_bert(dropout=0.1), **keywords)
    part.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{stopped}"))
    assert part.choices.kept == whole.choices.kept
    assert losses(part) == pytest.approx(losses(whole), rel=1e-5)
    for name, weight in whole.model.named_parameters():
        torch.testing.assert_close(dict(part.model.named_parameters())[name], weight)


def test_a_search_finds_the_same_best_in_both(tmp_path) -> None:
    """A new model for each try, and the batch that it asks for."""

    def fresh(trial):
        return tiny_bert()

    def space(trial) -> dict[str, Any]:
        size = trial.suggest_categorical("per_device_train_batch_size", [4, 8])
        return {"learning_rate": trial.suggest_categorical("learning_rate", [1e-6, 1e-2]),
                "per_device_train_batch_size": size}  # fmt: skip

    grid = {"learning_rate": [1e-6, 1e-2], "per_device_train_batch_size": [4, 8]}
    found, chosen = [], []

    class Watched(WorkbenchTrainer):
        def _choose(self, saved) -> None:
            chosen.append(self._train_batch_size)
            super()._choose(saved)

    for kind in (Trainer, Watched):
        trainer = build(kind, tmp_path / kind.__name__, model_init=fresh, eval_strategy="steps",
                        eval_steps=6)  # fmt: skip
        found.append(
            trainer.hyperparameter_search(
                space, n_trials=4, direction="minimize", sampler=GridSampler(grid, seed=0)
            )
        )
    plain, ours = found
    assert ours.hyperparameters == plain.hyperparameters
    assert ours.hyperparameters["learning_rate"] == 1e-2
    assert ours.objective == pytest.approx(plain.objective, rel=1e-3)
    assert set(chosen) == {4, 8}  # what pays for one batch may not for another


class Hub:
    """In the place of huggingface_hub's API: remembers what files came last."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def create_repo(self, name: str, **_: Any) -> Any:
        return SimpleNamespace(repo_id=f"someone/{name}")

    def upload_folder(self, *, folder_path: str, **_: Any) -> None:
        self.files = {path.name for path in Path(folder_path).iterdir() if path.is_file()}


def test_both_push_the_same_files_to_the_hub(tmp_path, monkeypatch) -> None:
    pushed = []
    for kind in (Trainer, WorkbenchTrainer):
        hub = Hub()
        monkeypatch.setattr("transformers.trainer.hf_api", lambda hub=hub: hub)
        trainer = build(kind, tmp_path / kind.__name__, max_steps=1, hub_model_id="model")
        trainer.train()
        trainer.push_to_hub()
        pushed.append(hub.files)
    assert pushed[1] == pushed[0] | {"accelerators.json"}
    assert {"README.md", "model.safetensors", "training_args.bin"} <= pushed[0]


@KINDS
def test_a_push_without_a_network_is_refused_by_transformers_own_words(tmp_path, kind) -> None:
    with pytest.raises(OfflineModeIsEnabled):
        build(kind, tmp_path, push_to_hub=True)


def test_a_loss_of_ones_own_is_taken(tmp_path) -> None:
    def smooth_l1(outputs, labels, num_items_in_batch=None):
        return torch.nn.functional.smooth_l1_loss(outputs.logits[:, 0], labels.float())

    same_logs(*both(tmp_path, compute_loss_func=smooth_l1))


class Distils:
    """Mixed into either trainer: the loss is the divergence from a teacher."""

    def compute_loss(self, model, inputs, return_outputs=False, **keywords):
        outputs = model(**{k: v for k, v in inputs.items() if k != "labels"})
        with torch.no_grad():
            wanted = self.teacher(**{k: v for k, v in inputs.items() if k != "labels"}).logits
        loss = torch.nn.functional.kl_div(
            outputs.logits.log_softmax(-1), wanted.softmax(-1), reduction="batchmean"
        )
        return (loss, outputs) if return_outputs else loss


def test_a_student_learns_alike_from_its_teacher_in_both(tmp_path) -> None:
    teacher = tiny_bert().eval()
    torch.nn.init.normal_(teacher.classifier.weight)
    given = {"teacher": teacher}
    kinds = [type(kind.__name__, (Distils, kind), given) for kind in (Trainer, WorkbenchTrainer)]
    plain, ours = both(tmp_path, kinds)
    same_logs(plain, ours)
    assert losses(ours)[-1] < losses(ours)[0]


def test_arguments_are_read_from_a_command_line() -> None:
    [args] = HfArgumentParser(WorkbenchTrainingArguments).parse_args_into_dataclasses(
        ["--output_dir", "out", "--accelerate", "bf16,heap", "--use_cpu", "True"]
    )
    assert args.allowed == ("bf16", "heap")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"accelerate": ["warp"]}, "'warp' is unknown; allowed: 'auto', 'none', or some of"),
        ({"accelerate": "bf16", "fp16": True}, "bf16, and fp16=True"),
        ({"accelerate": ["by_length"], "train_sampling_strategy": "sequential"}, "sets the order"),
        ({"accelerate": ["merge"], "auto_find_batch_size": True}, "auto_find_batch_size=True"),
        ({"accelerate_share": 0.0}, "accelerate_share is 0.0"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(tmp_path, arguments, told) -> None:
    with pytest.raises(WorkbenchError, match=told):
        WorkbenchTrainingArguments(str(tmp_path), use_cpu=True, **arguments)


def test_arguments_of_transformers_are_refused_with_what_to_give(tmp_path) -> None:
    args = TrainingArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(WorkbenchError, match="give WorkbenchTrainingArguments"):
        WorkbenchTrainer(tiny_bert(), args)
