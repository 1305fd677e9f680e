"""The trial leaves no trace, keeps what pays, and says so; bad input is told."""

import random
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from tests.train.helpers import Sentences, build, losses, pad_to_longest, tiny_bert
from workbench import WorkbenchTrainer
from workbench.errors import WorkbenchError
from workbench.train.accelerators import Accelerator
from workbench.train.choices import FILE, Choices, ratio_of


class Clock:
    """What the trial reads instead of the time: a step adds what it costs."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


clock = Clock()


class Slower(Accelerator):
    """Doubles what a step costs."""

    name, brings, changes, cost = "slower", "nothing but cost", "nothing", 2.0

    def obstacle(self, trainer):
        return None

    @contextmanager
    def on(self, trainer):
        trainer.cost = self.cost
        try:
            yield
        finally:
            trainer.cost = 1.0


class Quicker(Slower):
    """Halves it."""

    name, brings, cost = "quicker", "half the cost", 0.5


class Counted(WorkbenchTrainer):
    """Draws random numbers of all kinds in each step, as losses and data may."""

    cost = 1.0

    def training_step(self, *rest, **keywords):
        clock.now += self.cost
        torch.rand(3)
        np.random.rand(3)
        random.random()
        return super().training_step(*rest, **keywords)


@pytest.fixture
def two(monkeypatch):
    """Only these two to choose among, by that clock."""
    only = {one.name: one for one in (Slower(), Quicker())}
    for module in ("trial", "trainer", "arguments"):
        monkeypatch.setattr(f"workbench.train.{module}.accelerators", only)
    monkeypatch.setattr("workbench.train.trial.time", clock)


def test_what_pays_is_kept_and_what_does_not_is_told(two, tmp_path) -> None:
    trainer = build(Counted, tmp_path, max_steps=40, accelerate="auto", accelerate_trial=True,
                    accelerate_share=1.0, save_strategy="steps", save_steps=40)  # fmt: skip
    trainer.train()
    slower, quicker = trainer.choices.rows
    assert (slower.verdict, slower.ratio, slower.error) == ("does not pay", 0.5, 0.0)
    assert (quicker.verdict, quicker.ratio, quicker.error) == ("kept", 2.0, 0.0)
    assert (trainer.choices.ratio, trainer.choices.step_s) == (2.0, 1.0)
    assert Choices.load(tmp_path / "checkpoint-40") == trainer.choices
    because = list(trainer.choices.table().columns[-1].cells)
    assert because == ["no gain beyond noise", "half the cost"]


def test_a_trial_leaves_no_trace(two, tmp_path) -> None:
    """Dropout, the order of rows and every weight are as without it."""
    found = []
    for share in (1.0, 1e-6):
        trainer = build(Counted, tmp_path / str(share), tiny_bert(dropout=0.1), max_steps=40,
                        accelerate="auto", accelerate_trial=True,
                        accelerate_share=share)  # fmt: skip
        trainer.train()
        found.append(trainer)
    assert {row.verdict for row in found[1].choices.rows} == {"not tried"}
    assert [row.verdict for row in found[0].choices.rows] == ["does not pay", "kept"]
    assert losses(found[0]) == losses(found[1])
    for one, other in zip(found[0].model.parameters(), found[1].model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_optimizer_that_was_given_is_as_before_the_trial(two, tmp_path) -> None:
    found = []
    for share in (1.0, 1e-6):
        model = tiny_bert()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        trainer = build(Counted, tmp_path / str(share), model, max_steps=40, accelerate="auto",
                        optimizers=(optimizer, None), accelerate_trial=True,
                        accelerate_share=share)  # fmt: skip
        trainer.train()
        found.append(losses(trainer))
    assert found[0] == found[1]


def test_the_error_of_a_ratio_is_the_jackknifes() -> None:
    """Equal pairs have none; for constant denominators it is that of the mean."""
    assert ratio_of([2.0, 2.0, 2.0], [1.0, 1.0, 1.0]) == (2.0, 0.0)
    times = [1.0, 2.0, 3.0, 6.0]
    ratio, error = ratio_of(times, [1.0] * 4)
    assert ratio == 3.0
    assert error == pytest.approx(np.std(times, ddof=1) / 2)


def test_data_that_can_be_read_once_are_not_used_up(tmp_path) -> None:
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(Sentences(48).rows)

    trainer = build(WorkbenchTrainer, tmp_path, train_dataset=Stream(), accelerate="auto",
                    accelerate_trial=True, accelerate_share=1.0)  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 6
    tried = [row for row in trainer.choices.rows if row.verdict != "does not apply"]
    assert {row.reason for row in tried} == {"the data are a stream: a trial would use them up"}


@pytest.mark.parametrize("accelerate", ["auto", "none"])
def test_out_of_memory_at_the_start_makes_a_smaller_plan(tmp_path, accelerate, caplog) -> None:
    """And the run is the one of the whole batch: rows of a step, and their order, are the same."""

    class Small(WorkbenchTrainer):
        def training_step(self, model, inputs, *rest, **keywords):
            if len(inputs["labels"]) > 4:
                raise torch.OutOfMemoryError("DefaultCPUAllocator: can't allocate memory")
            return super().training_step(model, inputs, *rest, **keywords)

    trainer = build(Small, tmp_path / "a", accelerate=accelerate, accelerate_trial=True)
    if accelerate == "none":
        with pytest.raises(torch.OutOfMemoryError):
            trainer.train()
        return
    trainer.train()
    assert "going on with 4 at a time, 2 times a step" in caplog.text
    assert trainer.choices.micro_batch == 4
    other = build(WorkbenchTrainer, tmp_path / "b", accelerate="none",
                  per_device_train_batch_size=4, gradient_accumulation_steps=2)  # fmt: skip
    other.train()
    assert losses(trainer) == losses(other)


def test_a_collator_that_makes_no_dictionary_is_named(tmp_path) -> None:
    trainer = build(WorkbenchTrainer, tmp_path, data_collator=list,
                    accelerate=["trim"])  # fmt: skip
    with pytest.raises(WorkbenchError, match="collator gives a list"):
        trainer.train()


def test_a_collator_that_leaves_the_labels_out_fails_as_in_transformers(tmp_path) -> None:
    def unlabelled(rows):
        return {k: v for k, v in pad_to_longest(rows).items() if k != "labels"}

    trainer = build(WorkbenchTrainer, tmp_path, data_collator=unlabelled)
    with pytest.raises(ValueError, match="did not return a loss"):
        trainer.train()


def test_a_damaged_file_of_choices_is_named(tmp_path) -> None:
    (tmp_path / FILE).write_text('{"rows": [{"name": 3}]}')
    with pytest.raises(WorkbenchError, match="is damaged"):
        Choices.load(tmp_path)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(WorkbenchError, match="is damaged"):
        Choices.load(tmp_path)
    assert Choices.load(tmp_path / "none") is None
