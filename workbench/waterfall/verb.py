"""The verb compress: a teacher becomes a small quantized student, and every step is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from workbench.compare import machine, versions
from workbench.compare.machine import usable_cores
from workbench.compare.tasks.documents import drawn
from workbench.compare.tasks.labels import Labelled, read_table
from workbench.compress import (
    Examples,
    Training,
    classifier,
    distil,
    importance,
    of_layers,
    prune,
)
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel, load, save
from workbench.models.atomic import replacing
from workbench.quant import QuantArgs, freeze, quantize
from workbench.recipe import Recipe
from workbench.recipe.compression import CompressionSpec, TextTask
from workbench.waterfall.document import Waterfall
from workbench.waterfall.engines import Variant, write_onnx
from workbench.waterfall.measure import measure, with_instances

Split = Literal["train", "held_out", "test"]

SCORE_BATCH = 32
FIGURES = "waterfall.json"
IN_TURNS = (
    "batch 1, threads: {threads}, all variants in turns on each request; several instances have "
    "one thread each and requests sorted by length"
)


def compress(recipe: Recipe, out: Path | str) -> Waterfall:
    """Do what the section `compression` of `recipe` says, in the folder `out`, and measure it.

    Each step leaves a folder there, and the figures `waterfall.json`; a run that was interrupted
    goes on, and a step that is finished is not repeated. Steps learn from the task's training
    texts and choose by its held-out ones; its test texts are read when everything is made, and
    decide nothing. Raises WorkbenchError where the recipe has no such section, and for whatever a
    step refuses.
    """
    spec = recipe.compression
    if spec is None:
        raise WorkbenchError("the recipe has no section compression: say the task and the steps")
    return _Run(recipe, spec, Path(out).expanduser()).all()


@dataclass
class _Run:
    recipe: Recipe
    spec: CompressionSpec
    out: Path

    def all(self) -> Waterfall:
        """Every step, then the figures."""
        teacher = self.teacher()
        variants = [
            self._variant("teacher, padded", "teacher", teacher, padded=True),
            self._variant("teacher, own lengths", "dynamic length", teacher),
        ]
        last = self.student(teacher)
        if last is not teacher:
            variants.append(self._variant("student", "distilled", last))
        if self.spec.pruning is not None:
            last = self.pruned(teacher, last)
            variants.append(self._variant("student, pruned", "pruned", last))
        for engine in self.spec.engines:
            folder = self.out / f"int8-{engine}"
            int8[engine](last, folder)
            parameters = variants[-1].parameters
            variants.append(Variant(f"int8, {engine}", "quantized", engine, folder, parameters))
        return self.measured(variants, teacher)

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
        if self.spec.layers is None and self.spec.student is None:
            return teacher
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

    def measured(self, variants: Sequence[Variant], teacher: LoadedModel) -> Waterfall:
        """The figures of all variants, in turns; the fastest in several processes too."""
        spec, task = self.spec, self.spec.task
        rows = self._examples("test", teacher).rows
        threads = spec.threads or len(usable_cores())
        pad = teacher.tokenizer.pad_token_id
        found = measure(variants, rows, length=task.length, pad=pad, threads=threads, judged=True)
        instances = spec.instances or len(usable_cores())
        if instances > 1:
            ends = [place for place, one in enumerate(variants) if one.step == variants[-1].step]
            best = max(ends, key=lambda place: found[place].factor(found[0]))
            many = with_instances(
                found[best], variants[best], rows, pad=pad, instances=instances, threads=1
            )
            found.append(many)
        figures = Waterfall(
            title=f"{teacher.name} on {Path(task.test).name}: what each step brought",
            rows=found,
            examples=len(rows),
            length=task.length,
            price_per_hour=spec.price_per_hour,
            notes=[IN_TURNS.format(threads=threads)],
            machine=machine(),
            versions=versions(),
        )
        figures.save(self.out / FIGURES)
        return figures

    def _read(self, split: Split) -> list[Labelled]:
        return task_texts(self.spec.task, split, self.recipe.seed)

    def _examples(self, split: Split, model: LoadedModel) -> Examples:
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
        learn, judge = self._examples("train", student), self._examples("held_out", student)
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

    def _variant(self, name: str, step: str, loaded: LoadedModel, padded: bool = False) -> Variant:
        assert loaded.folder is not None
        return Variant(name, step, "torch", loaded.folder, loaded.parameters_count, padded)


def _all_layers(model: LoadedModel) -> range:
    config: Any = model.model.config
    return range(config.num_hidden_layers)


def task_texts(task: TextTask, split: Split, seed: int) -> list[Labelled]:
    """The texts of a split, as many as the task says; raises WorkbenchError for a damaged file."""
    limits = {"train": task.limit, "held_out": task.limit_held_out, "test": task.limit_test}
    found = read_table(Path(getattr(task, split)), task.text, task.label, None)
    return drawn(found, limits[split], seed)


def labelled_examples(
    rows: Sequence[Labelled], model: LoadedModel, length: int, where: object
) -> Examples:
    """Tokenized texts; raises WorkbenchError for a label that the model does not know."""
    config: Any = model.model.config
    numbers: Mapping[str, int] = config.label2id
    unknown = next((row.label for row in rows if row.label not in numbers), None)
    if unknown is not None:
        raise WorkbenchError(
            f"{where} has label {unknown!r}, which is none of the model's: {', '.join(numbers)}"
        )
    texts, labels = [row.text for row in rows], [numbers[row.label] for row in rows]
    return Examples(model.tokenizer, texts, labels, length=length)


def padded_batches(found: Examples, size: int) -> list[dict[str, Tensor]]:
    """The examples in batches of `size`, sorted by length, padded batch by batch."""
    rows = sorted(found.rows, key=lambda row: len(row["input_ids"]))
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [dict(found.tokenizer.pad(part, return_tensors="pt")) for part in parts]


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
