"""The verb compress: a teacher becomes a small quantized student, and every step is measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.compare import machine, versions
from workbench.compare.machine import usable_cores
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel
from workbench.recipe import Recipe
from workbench.recipe.compression import CompressionSpec
from workbench.waterfall.document import Waterfall
from workbench.waterfall.engines import Variant
from workbench.waterfall.measure import IN_TURNS, measure, with_instances
from workbench.waterfall.steps import Run

FIGURES = "waterfall.json"
SHARED = ("model", "seed")
SHARED_SECTION = ("task", "teacher", "threads", "instances", "batch", "price_per_hour")


def compress(recipe: Recipe | Mapping[str, Recipe], out: Path | str) -> Waterfall:
    """Do what the section `compression` of `recipe` says, in the folder `out`, and measure it.

    Each step leaves a folder there, and the figures `waterfall.json`; a run that was interrupted
    goes on, and a step that is finished is not repeated. Steps learn from the task's training
    texts and choose by its held-out ones; its test texts are read when everything is made, and
    decide nothing. Several recipes by name, each in a folder of that name, share the teacher and
    every student that they train alike, and are measured in turns with each other: the points of a
    trade-off. Raises WorkbenchError where a recipe has no such section, where recipes differ in
    what they must share, and for whatever a step refuses.
    """
    recipes = {"": recipe} if isinstance(recipe, Recipe) else dict(recipe)
    out = Path(out).expanduser()
    runs = [Run(name, one, _section(name, one), out / name) for name, one in recipes.items()]
    _check_shared(runs)
    first = Run("", runs[0].recipe, runs[0].spec, out)
    teacher = first.teacher()
    padded = first.variant("teacher, padded", "teacher", teacher)
    base = first.variant("teacher, own lengths", "dynamic length", teacher, padded)
    students: dict[str, tuple[LoadedModel, Variant]] = {}
    variants = {one.name: one for one in (padded, base)}
    for run in runs:
        variants |= {one.name: one for one in run.steps(teacher, base, students)}
    return _measured(first, list(variants.values()), teacher)


def _section(name: str, recipe: Recipe) -> CompressionSpec:
    if name != Path(name).name or name == "..":
        raise WorkbenchError(f"{name!r} names no folder inside another; use a plain name")
    if recipe.compression is None:
        raise WorkbenchError("the recipe has no section compression: say the task and the steps")
    return recipe.compression


def _check_shared(runs: Sequence[Run]) -> None:
    """Raise WorkbenchError where what all runs are measured with is not the same."""
    if not runs:
        raise WorkbenchError("no recipe was given: give at least one with a section compression")
    first = runs[0]
    for run in runs[1:]:
        for part, names in (("recipe", SHARED), ("spec", SHARED_SECTION)):
            for name in names:
                ours, theirs = (getattr(getattr(one, part), name) for one in (run, first))
                if ours != theirs:
                    raise WorkbenchError(
                        f"{run.name} has {name} {ours!r}, and {first.name} {theirs!r}: points of "
                        "one trade-off share it"
                    )


def _measured(run: Run, variants: Sequence[Variant], teacher: LoadedModel) -> Waterfall:
    """The figures of all variants, in turns; the fastest in several processes too."""
    spec, task = run.spec, run.spec.task
    rows = run.examples("test", teacher).rows
    threads = spec.threads or len(usable_cores())
    pad = teacher.tokenizer.pad_token_id
    found = measure(variants, rows, length=task.length, pad=pad, threads=threads, judged=True)
    instances = spec.instances or len(usable_cores())
    sizes = [size for size in (1, spec.batch) if size > 1 or instances > 1]
    if sizes:
        ends = [place for place, one in enumerate(variants) if one.step == variants[-1].step]
        best = max(ends, key=lambda place: found[place].factor(found[0]))
        found += with_instances(
            found[best], variants[best], rows, pad=pad, instances=instances, threads=1, sizes=sizes
        )
    figures = Waterfall(
        title=f"{Path(teacher.name).name} on {Path(task.test).name}: what each step brought",
        rows=found,
        examples=len(rows),
        length=task.length,
        price_per_hour=spec.price_per_hour,
        notes=[IN_TURNS.format(threads=threads)],
        machine=machine(),
        versions=versions(),
    )
    figures.save(run.out / FIGURES)
    return figures
