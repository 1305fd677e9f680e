"""The section of a recipe that makes a smaller model: distil, prune, quantize, measure each."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.compress import Distillation, Target, Training

EngineName = Literal["workbench", "workbench compiled", "onnxruntime"]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextTask(_Spec):
    """Tab-separated files with a header: `train`, `held_out`, and `test`, which is only reported.

    The limits draw so many texts of each. Texts are cut at `length` tokens, to which the inputs of
    the padded baseline are filled.
    """

    train: str
    held_out: str
    test: str
    text: str = "sentence"
    label: str = "label"
    length: int = Field(default=64, ge=2)
    limit: int | None = Field(default=None, ge=1)
    limit_held_out: int | None = Field(default=None, ge=1)
    limit_test: int | None = Field(default=None, ge=1)


class CompressionSpec(_Spec):
    """What is done to the recipe's model on a task, step by step; None leaves a step out.

    A model that is no classifier becomes one first, by `teacher`. The student has these `layers` of
    it (all with None) and what `student` leaves of heads and units, and learns by `training` to do
    as the teacher does; pruned by `pruning`, it learns again by `repair`. Importance is scored on
    `score_on` training texts; a latency is that of the middle one of them alone, by length. The
    result is quantized for each of `engines`, and the fastest of them also runs in `instances`
    processes, by one request and by `batch` of like length at a time. `price_per_hour` is that of
    this machine.
    """

    task: TextTask
    teacher: Training = Training()
    layers: tuple[int, ...] | None = None
    student: Target | None = None
    distillation: Distillation = Distillation(labels=0.5, hidden=3.0)
    training: Training = Training(learning_rate=1e-4)
    pruning: Target | None = Target(heads=0.75, units=0.6, multiple=16)
    repair: Training = Training(epochs=1.0, learning_rate=7e-5)
    score_on: int = Field(default=1024, ge=1)
    engines: tuple[EngineName, ...] = ("workbench", "onnxruntime")
    threads: int | None = Field(default=None, ge=1)
    instances: int | None = Field(default=None, ge=1)
    batch: int = Field(default=4, ge=1)
    price_per_hour: float = Field(default=1.0, gt=0)
