"""One training run in a process of its own, that trains when it is told to."""

import os
import tempfile
import time
from multiprocessing.connection import Connection
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging

from workbench.bench.training_subjects import Subject
from workbench.errors import WorkbenchError, in_words
from workbench.ops.resident import peak, reset_peak
from workbench.train.arguments import WorkbenchTrainingArguments
from workbench.train.trainer import WorkbenchTrainer


class Variant(BaseModel):
    """Which trainer: transformers' own (`accelerate` None), or ours with these accelerators."""

    model_config = ConfigDict(frozen=True)
    name: str
    accelerate: tuple[str, ...] | None
    seed: int = 0


class Turn(BaseModel):
    """Seconds of a few optimizer steps: of the clock, and of this process on the processor."""

    model_config = ConfigDict(frozen=True)
    seconds: float
    processor_s: float


class Outcome(BaseModel):
    """What a run leaves; `kept` are the accelerators that were on, `refused` why others were not.

    `compile_s` is what its first steps took, before the turns. `peak_bytes` is of the whole
    process, None where the system does not tell.
    """

    model_config = ConfigDict(frozen=True)
    tokens: int
    losses: tuple[float, ...]
    held_out: float
    kept: tuple[str, ...] = ()
    refused: dict[str, str] = {}
    compile_s: float = 0.0
    peak_bytes: int | None = None


def run(pipe: Connection, subject: Subject, variant: Variant, how: dict[str, int]) -> None:
    """Train as `variant` says, a turn for each word that comes through `pipe`.

    Sends "ready", then a `Turn` after each, and an `Outcome` at the end; or, whenever it fails, a
    sentence.
    """
    try:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        torch.set_num_threads(how["threads"])
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # or others have compiled it already
            trainer = _trainer(subject, variant, how, folder)
            turns = _Turns(pipe, trainer, how["turn"])
            trainer.add_callback(turns)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            highest = peak(trainer.args.device)
            held_out = trainer.evaluate()["eval_loss"]
        pipe.send(_outcome(trainer, highest, held_out))
    except WorkbenchError as error:
        pipe.send(str(error))
    except Exception as error:  # noqa: BLE001 - told to the parent, whatever it is
        pipe.send(in_words(error))


def _trainer(subject: Subject, variant: Variant, how: dict[str, int], folder: str) -> Trainer:
    material = subject.make(how["steps"] * how["batch"], subject.judged)
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": how["batch"],
        "max_steps": how["steps"],
        "seed": variant.seed,
        "logging_steps": 1,
        "save_strategy": "no",
        "include_num_input_tokens_seen": "non_padding",
        "use_cpu": not torch.cuda.is_available(),
        "disable_tqdm": True,
        "report_to": [],
    } | material.arguments
    kind: type[Trainer] = Trainer
    args = TrainingArguments(folder, **arguments)
    if variant.accelerate is not None:
        kind = WorkbenchTrainer
        chosen = list(variant.accelerate)
        args = WorkbenchTrainingArguments(
            folder, accelerate=chosen, accelerate_trial=False, **arguments
        )
    return kind(
        material.model,
        args,
        data_collator=material.data_collator,
        train_dataset=material.train_dataset,
        eval_dataset=material.eval_dataset,
        processing_class=material.processing_class,
    )


def _outcome(trainer: Trainer, highest: int | None, held_out: float) -> Outcome:
    rows = trainer.choices.rows if isinstance(trainer, WorkbenchTrainer) else ()
    return Outcome(
        tokens=trainer.state.num_input_tokens_seen,
        losses=tuple(row["loss"] for row in trainer.state.log_history if "loss" in row),
        held_out=held_out,
        kept=tuple(row.name for row in rows if row.verdict == "kept"),
        refused={row.name: row.reason for row in rows if row.verdict != "kept"},
        compile_s=sum(row.first_s for row in rows),
        peak_bytes=highest,
    )


class _Turns(TrainerCallback):
    """Waits for its turn before the first step and after every few."""

    def __init__(self, pipe: Connection, trainer: Trainer, steps: int) -> None:
        self.pipe, self.trainer, self.steps = pipe, trainer, steps

    def on_train_begin(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        choices = getattr(self.trainer, "choices", None)
        if choices is not None and not choices.kept:
            raise WorkbenchError("; ".join(dict.fromkeys(row.reason for row in choices.rows)))
        reset_peak(args.device)
        self.pipe.send("ready")
        self._wait()

    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if state.global_step % self.steps == 0 or state.global_step == state.max_steps:
            self.pipe.send(
                Turn(
                    seconds=time.perf_counter() - self.started,
                    processor_s=time.process_time() - self.used,
                )
            )
            self._wait()

    def _wait(self) -> None:
        self.pipe.recv()
        self.started, self.used = time.perf_counter(), time.process_time()
