"""The steps from a teacher to a small quantized student, each left in a folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from workbench.compare.machine import usable_cores
from workbench.compress import (
    Kept,
    Target,
    Training,
    classifier,
    distil,
    importance,
    of_layers,
    prune,
)
from workbench.models import LoadedModel, load, save
from workbench.models.atomic import replacing, write_text
from workbench.models.digest import content_digest
from workbench.models.document import read_document
from workbench.ops.threads import torch_threads
from workbench.quant import QuantArgs, freeze, quantize
from workbench.recipe import Recipe
from workbench.recipe.compression import CompressionSpec
from workbench.waterfall.engines import Variant, write_onnx
from workbench.waterfall.measure import request
from workbench.waterfall.texts import TaskTexts, padded_batches

SCORE_BATCH = 32
OF_STUDENT = {"layers", "student", "distillation", "training", "score_on"}


@dataclass(frozen=True)
class Run:
    """The steps of one recipe in a folder; `name` goes before those of its variants."""

    name: str
    recipe: Recipe
    spec: CompressionSpec
    texts: TaskTexts
    out: Path

    @property
    def threads(self) -> int:
        """Those that a request is answered with."""
        return self.spec.threads or len(usable_cores())

    def steps(
        self,
        teacher: LoadedModel,
        base: Variant,
        students: dict[str, tuple[LoadedModel, Variant]],
    ) -> Iterator[Variant]:
        """Make each step from `teacher`, or from the student that another run has trained so."""
        last, parent = teacher, base
        if self.spec.layers is not None or self.spec.student is not None:
            how = self.spec.model_dump_json(include=OF_STUDENT)
            if how not in students:
                last = self.student(teacher)
                students[how] = last, self.variant("student", "distilled", last, base)
            last, parent = students[how]
            yield parent
        if self.spec.pruning is not None:
            last = self.pruned(teacher, last)
            parent = self.variant("student, pruned", "pruned", last, parent)
            yield parent
        for engine in self.spec.engines:
            folder = self.out / f"int8-{engine}"
            int8[engine](last, folder)
            yield Variant(
                self._named(f"int8, {engine}"),
                "quantized",
                engine,
                folder,
                parent.parameters,
                parent=parent.name,
            )

    def teacher(self) -> LoadedModel:
        """The recipe's model if it is a classifier, else one on it."""
        loaded = load(self.recipe.model)
        if loaded.kind == "classifier":
            return loaded
        names = sorted({row.label for row in self.texts["train"]})
        made = classifier(loaded, names, self.recipe.seed)
        return self._learned(made, "teacher", self.spec.teacher)

    def student(self, teacher: LoadedModel) -> LoadedModel:
        """Some of the teacher's layers, narrower, after it has learned from the teacher."""
        layers = self.spec.layers
        student = of_layers(teacher, _all_layers(teacher) if layers is None else layers)
        if self.spec.student is not None:
            self._narrow(student, "student")
        return self._learned(student, "student", self.spec.training, teacher)

    def pruned(self, teacher: LoadedModel, student: LoadedModel) -> LoadedModel:
        """The student with fewer heads and units, after it has learned again."""
        made = of_layers(student, _all_layers(student))
        self._narrow(made, "pruning")
        return self._learned(made, "pruned", self.spec.repair, teacher)

    def _narrow(self, student: LoadedModel, part: str) -> None:
        """Prune by importance on some training texts; a time is that of the middle one, by length.

        What met a time is noted: a run that goes on would measure another and make another student.
        """
        found = self.texts.examples("train", student, self.spec.score_on)
        target: Target = getattr(self.spec, part)
        asked = [content_digest(student.model), found.digest(), target.model_dump_json()]
        note = self.out / f"{part}.json"
        scores = importance(student.model, padded_batches(found, SCORE_BATCH))
        by_length = sorted(found.rows, key=lambda row: len(row["input_ids"]))
        middle = request([by_length[len(by_length) // 2]], None, student.tokenizer.pad_token_id)
        with torch_threads(self.threads):
            made = prune(student.model, scores, _met(note, asked) or target, middle)
        if target.latency_ms is not None:
            write_text(note, _Met(asked=asked, kept=made.kept).model_dump_json())

    def _learned(
        self, student: LoadedModel, name: str, how: Training, teacher: LoadedModel | None = None
    ) -> LoadedModel:
        learn, judge = (self.texts.examples(split, student) for split in ("train", "held_out"))
        distil(
            student,
            learn,
            judge,
            self.out / name,
            teacher=teacher,
            distillation=self.spec.distillation,
            training=how,
        )
        return load(self.out / name)

    def variant(
        self, name: str, step: str, loaded: LoadedModel, parent: Variant | None = None
    ) -> Variant:
        """The model as a variant made of `parent`; the first has padded inputs."""
        assert loaded.folder is not None
        return Variant(
            self._named(name),
            step,
            "torch",
            loaded.folder,
            loaded.parameters_count,
            padded=parent is None,
            parent=None if parent is None else parent.name,
        )

    def _named(self, name: str) -> str:
        return f"{self.name}: {name}" if self.name else name


def _all_layers(model: LoadedModel) -> range:
    config: Any = model.model.config
    return range(config.num_hidden_layers)


class _Met(BaseModel):
    """The units that met a time, and of what model, texts and target."""

    model_config = ConfigDict(frozen=True)
    asked: list[str]
    kept: Kept


def _met(note: Path, asked: list[str]) -> Kept | None:
    """The units that met the time that is asked for, where an earlier run has noted them."""
    if not note.is_file():
        return None
    found = read_document(_Met, note, "{path} is damaged ({reason}): give a new folder")
    return found.kept if found.asked == asked else None


def _ours(model: LoadedModel, folder: Path) -> None:
    """W8A8: weights by channel, activations by token as they come."""
    if folder.is_dir():
        return
    made = model.copy()
    quantize(made, "int8", QuantArgs(granularity="token", dynamic=True))
    freeze(made)
    save(made, folder, tokenizer=model.tokenizer)


def _onnx(model: LoadedModel, folder: Path) -> None:
    if folder.is_dir():
        return
    with replacing(folder) as made:
        write_onnx(model, made)


int8 = {"workbench": _ours, "workbench compiled": _ours, "onnxruntime": _onnx}
