"""The steps from a teacher to a small quantized student, each left in a folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.compare.tasks.documents import drawn
from workbench.compare.tasks.labels import Labelled
from workbench.compress import (
    Examples,
    Training,
    classifier,
    distil,
    importance,
    of_layers,
    prune,
)
from workbench.models import LoadedModel, load, save
from workbench.models.atomic import replacing
from workbench.quant import QuantArgs, freeze, quantize
from workbench.recipe import Recipe
from workbench.recipe.compression import CompressionSpec
from workbench.waterfall.engines import Variant, write_onnx
from workbench.waterfall.texts import Split, labelled_examples, padded_batches, task_texts

SCORE_BATCH = 32
OF_STUDENT = {"layers", "student", "distillation", "training", "score_on"}


@dataclass(frozen=True)
class Run:
    """The steps of one recipe in a folder; `name` goes before those of its variants."""

    name: str
    recipe: Recipe
    spec: CompressionSpec
    out: Path

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
        names = sorted({row.label for row in self._read("train")})
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

    def _read(self, split: Split) -> list[Labelled]:
        return task_texts(self.spec.task, split, self.recipe.seed)

    def examples(self, split: Split, model: LoadedModel) -> Examples:
        """The texts of a split as `model` reads them."""
        where = getattr(self.spec.task, split)
        return labelled_examples(self._read(split), model, self.spec.task.length, where)

    def _narrow(self, student: LoadedModel, part: str) -> None:
        """Prune by importance on the first training texts, drawn by the recipe's seed."""
        rows = drawn(self._read("train"), self.spec.score_on, self.recipe.seed)
        found = labelled_examples(rows, student, self.spec.task.length, self.spec.task.train)
        batches = padded_batches(found, SCORE_BATCH)
        target = getattr(self.spec, part)
        prune(student.model, importance(student.model, batches), target, batches[0])

    def _learned(
        self, student: LoadedModel, name: str, how: Training, teacher: LoadedModel | None = None
    ) -> LoadedModel:
        learn, judge = self.examples("train", student), self.examples("held_out", student)
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
