"""Train a model on texts: on its own, or to do as a teacher does."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from workbench.compress.examples import Examples
from workbench.compress.lesson import learned_svg
from workbench.errors import WorkbenchError
from workbench.models.atomic import replacing, write_text
from workbench.models.digest import content_digest
from workbench.models.document import read_document
from workbench.models.loaded import LoadedModel
from workbench.train.distillation import Distillation

if TYPE_CHECKING:
    from workbench.compress.trainer import TextTrainer

RECORD = "learned.json"
RUN = "run.json"
LOGS = 100  # points of a curve


class Training(BaseModel):
    """How long and how fast; `frozen` are patterns of parameters that stay as they are.

    The learning rate rises over `warmup` (a share of the steps) and then falls to 0. The held-out
    texts judge `judgements` times, and the best weights are kept. `bf16` multiplies matrices in
    bfloat16, with weights in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    epochs: float = Field(default=2.0, gt=0)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0, allow_inf_nan=False)
    warmup: float = Field(default=0.06, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    judgements: int = Field(default=4, ge=1)
    frozen: tuple[str, ...] = ()
    bf16: bool = False
    seed: int = Field(default=0, ge=0)

    def steps(self, examples: int) -> int:
        """Optimizer steps on so many examples."""
        return max(1, round(self.epochs * -(-examples // self.batch_size)))


class Learned(BaseModel):
    """The curve of a run: the loss by steps, and `metric` of the held-out texts by steps.

    The weights are those after `kept` steps. `seconds` are of training and judging, without what
    an interruption lost.
    """

    model_config = ConfigDict(frozen=True)
    run: str
    losses: dict[int, float]
    metric: str
    judged: dict[int, float]
    kept: int
    seconds: float

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `distil` left in `folder`; raises WorkbenchError where there is none."""
        return read_document(cls, folder / RECORD, "{path} is damaged: give a new folder")

    @property
    def best(self) -> float:
        """The `metric` of the held-out texts with the weights that were kept."""
        return self.judged[self.kept]

    def _repr_html_(self) -> str:
        return learned_svg(self.losses, self.judged, self.metric, self.kept)


def distil(
    student: LoadedModel,
    train: Examples,
    held_out: Examples,
    folder: Path | str,
    *,
    teacher: LoadedModel | None = None,
    distillation: Distillation | None = None,
    training: Training | None = None,
) -> Learned:
    """Train the model of `student` in place and write it to `folder`, as transformers does.

    With a `teacher` the loss is that of `distillation`; without, the student's own. Held-out texts
    judge by accuracy where they have labels, else by the loss. A run that was interrupted, even by
    SIGKILL, goes on from its last checkpoint, beside the folder, to the same result; one that is
    finished is read. A cancel is obeyed between two steps. Raises WorkbenchError where tokenizers,
    classes or layers do not fit, and for a folder that holds another run.
    """
    training, distillation = training or Training(), distillation or Distillation()
    folder = Path(folder).expanduser()
    if teacher is not None:
        _same_tokenizer(student, teacher)
        _same_classes(student, teacher)
    run = _digest(student.model, train, held_out, teacher, distillation, training)
    done = _finished(folder, run)
    if done is not None:
        _restore(student.model, folder)
        return done
    work = folder.with_name(f"{folder.name}.part")
    _claim(work, run)
    with _private_state(student.model, training.frozen):
        taught: dict[str, Any] = {}
        if teacher is not None:
            taught = {"teacher": teacher.model, "distillation": distillation}
        trainer = _trainer(student, train, held_out, work, training, taught)
        trainer.train(resume_from_checkpoint=_last_checkpoint(work))
    learned = _learned(run, trainer)
    model: Any = student.model
    with replacing(folder) as made:
        model.save_pretrained(made)
        student.tokenizer.save_pretrained(made)
        write_text(made / RECORD, learned.model_dump_json(indent=2) + "\n")
    shutil.rmtree(work)
    return learned


def _same_tokenizer(student: LoadedModel, teacher: LoadedModel) -> None:
    if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
        raise WorkbenchError(
            f"{student.name} and its teacher {teacher.name} have different tokenizers, so they "
            "read different texts: take a student with the teacher's vocabulary"
        )


def _same_classes(student: LoadedModel, teacher: LoadedModel) -> None:
    """Raise WorkbenchError for two classifiers that number their classes otherwise."""
    if student.kind != "classifier":
        return
    ours, theirs = _classes(student), _classes(teacher)
    if ours and theirs and ours != theirs:
        raise WorkbenchError(
            f"{student.name} has the classes {', '.join(ours)}, and its teacher {teacher.name} "
            f"{', '.join(theirs)}: take the same for both, in the same order"
        )


def _classes(model: LoadedModel) -> list[str]:
    """The classes by number; none where they have no names of their own."""
    config: Any = model.model.config
    names = [str(config.id2label[number]) for number in sorted(config.id2label)]
    return [] if all(name == f"LABEL_{number}" for number, name in enumerate(names)) else names


def _digest(
    student: nn.Module,
    train: Examples,
    held_out: Examples,
    teacher: LoadedModel | None,
    distillation: Distillation,
    training: Training,
) -> str:
    """A hash of all that decides the result."""
    parts = [content_digest(student), train.digest(), held_out.digest(), training.model_dump_json()]
    if teacher is not None:
        parts += [content_digest(teacher.model), distillation.model_dump_json()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _finished(folder: Path, run: str) -> Learned | None:
    """What a run that ended left in `folder`."""
    record = folder / RECORD
    if not record.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise WorkbenchError(f"{folder} holds something else; give a new folder")
        return None
    learned = Learned.load(folder)
    if learned.run != run:
        raise WorkbenchError(
            f"{folder} holds a run with another model, data or settings; give a new folder"
        )
    return learned


def _restore(model: nn.Module, folder: Path) -> None:
    from safetensors.torch import load_file

    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)


def _claim(work: Path, run: str) -> None:
    """Make `work` this run's; raises WorkbenchError where it is another's."""
    said = work / RUN
    if said.is_file() and json.loads(said.read_text(encoding="utf-8")) != run:
        raise WorkbenchError(
            f"{work} holds an interrupted run with another model, data or settings; remove it, or "
            "give a new folder"
        )
    write_text(said, json.dumps(run))


def _last_checkpoint(work: Path) -> str | None:
    """The newest checkpoint that is whole: its state is written last."""
    found = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for path in reversed(found):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)
            continue
        return str(path)
    return None


@contextmanager
def _private_state(model: nn.Module, frozen: Sequence[str]) -> Iterator[None]:
    """Freeze what matches; afterwards every parameter, the mode and torch's seed are as before."""
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    was_training = model.training
    missing = [one for one in frozen if not any(fnmatch(name, one) for name in before)]
    if missing:
        raise WorkbenchError(
            f"no parameter is named {missing[0]!r}; there are for example: "
            f"{', '.join(list(before)[:3])}"
        )
    with torch.random.fork_rng():
        try:
            for name, parameter in model.named_parameters():
                parameter.requires_grad = not any(fnmatch(name, one) for one in frozen)
            yield
        finally:
            model.train(was_training)
            for name, parameter in model.named_parameters():
                parameter.requires_grad = before[name]
                parameter.grad = None


def _trainer(
    student: LoadedModel,
    train: Examples,
    held_out: Examples,
    work: Path,
    how: Training,
    taught: dict[str, Any],
) -> "TextTrainer":
    from transformers import (
        DataCollatorForLanguageModeling,
        DataCollatorWithPadding,
        PrinterCallback,
    )

    from workbench.compress.trainer import Reports, TextTrainer
    from workbench.train.arguments import WorkbenchTrainingArguments

    labelled = "labels" in held_out[0]
    steps = how.steps(len(train))
    every = max(1, steps // how.judgements)
    arguments = WorkbenchTrainingArguments(
        output_dir=str(work),
        accelerate="none",  # another trial may keep others: a resumed run shall end the same
        max_steps=steps,
        per_device_train_batch_size=how.batch_size,
        per_device_eval_batch_size=4 * how.batch_size,
        learning_rate=how.learning_rate,
        warmup_steps=round(how.warmup * steps),
        weight_decay=how.weight_decay,
        bf16=how.bf16,
        use_cpu=not torch.cuda.is_available(),
        seed=how.seed,
        logging_steps=max(1, steps // LOGS),
        eval_strategy="steps",
        eval_steps=every,
        save_steps=every,
        save_total_limit=1,  # and the best
        load_best_model_at_end=True,
        metric_for_best_model="accuracy" if labelled else "loss",
        label_names=["labels"] if labelled or student.kind == "causal-lm" else [],
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
    )
    if student.kind == "causal-lm":
        collate: Any = DataCollatorForLanguageModeling(student.tokenizer, mlm=False)
    else:
        collate = DataCollatorWithPadding(student.tokenizer)
    trainer = TextTrainer(
        model=student.model,
        args=arguments,
        train_dataset=train,
        eval_dataset=held_out,
        data_collator=collate,
        compute_metrics=_accuracy if labelled else None,
        callbacks=[Reports("training")],
        **taught,
    )
    trainer.remove_callback(PrinterCallback)  # progress is told by `Reports`
    trainer.can_return_loss = True  # also of texts without labels
    return trainer


def _accuracy(found: Any) -> dict[str, float]:
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}


def _learned(run: str, trainer: "TextTrainer") -> Learned:
    log = trainer.state.log_history
    metric = str(trainer.args.metric_for_best_model)
    return Learned(
        run=run,
        losses={int(row["step"]): row["loss"] for row in log if "loss" in row},
        metric=metric,
        judged={int(row["step"]): row[f"eval_{metric}"] for row in log if f"eval_{metric}" in row},
        kept=trainer.state.best_global_step or trainer.state.global_step,
        seconds=log[-1]["seconds"],
    )
