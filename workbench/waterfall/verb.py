"""The verb compress: a teacher becomes a small quantized student, and every step is measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from workbench.compare import machine, versions
from workbench.compare.machine import usable_cores
from workbench.compress import Learned
from workbench.compress.distil import RECORD
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel
from workbench.recipe import Recipe
from workbench.recipe.compression import CompressionSpec
from workbench.waterfall.document import Waterfall
from workbench.waterfall.engines import Variant
from workbench.waterfall.measure import IN_TURNS, measure, with_instances
from workbench.waterfall.steps import Run
from workbench.waterfall.texts import TaskTexts

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
    trade-off, of which the fastest result of the first recipe also runs in several processes.
    Raises WorkbenchError where a recipe has no such section, where recipes differ in what they must
    share, and for whatever a step refuses.
    """
    recipes = {"": recipe} if isinstance(recipe, Recipe) else dict(recipe)
    out = Path(out).expanduser()
    runs = _runs(recipes, out)
    first = replace(runs[0], name="", out=out)
    first.texts.check()
    teacher = first.teacher()
    padded = first.variant("teacher, padded", "teacher", teacher)
    base = first.variant("teacher, own lengths", "dynamic length", teacher, padded)
    students: dict[str, tuple[LoadedModel, Variant]] = {}
    made = [list(run.steps(teacher, base, students)) for run in runs]
    variants = {one.name: one for one in (padded, base, *chain(*made))}
    *_, last = base, *made[0]
    ends = [one.name for one in (base, *made[0]) if one.step == last.step]
    return _measured(first, list(variants.values()), ends, teacher)


def _runs(recipes: Mapping[str, Recipe], out: Path) -> list[Run]:
    """A run of each recipe in a folder of its name, on the same texts.

    Raises WorkbenchError where what all are measured with is not the same.
    """
    if not recipes:
        raise WorkbenchError("no recipe was given: give at least one with a section compression")
    sections = {name: _section(name, one) for name, one in recipes.items()}
    name = next(iter(recipes))
    texts = TaskTexts(sections[name].task, recipes[name].seed)
    runs = [Run(name, one, sections[name], texts, out / name) for name, one in recipes.items()]
    for run in runs[1:]:
        for part, names in (("recipe", SHARED), ("spec", SHARED_SECTION)):
            for name in names:
                ours, theirs = (getattr(getattr(one, part), name) for one in (run, runs[0]))
                if ours != theirs:
                    raise WorkbenchError(
                        f"{run.name} has {name} {ours!r}, and {runs[0].name} {theirs!r}: points of "
                        "one trade-off share it"
                    )
    return runs


def _section(name: str, recipe: Recipe) -> CompressionSpec:
    if name != Path(name).name or name == "..":
        raise WorkbenchError(f"{name!r} names no folder inside another; use a plain name")
    if recipe.compression is None:
        raise WorkbenchError("the recipe has no section compression: say the task and the steps")
    return recipe.compression


def _measured(
    run: Run, variants: Sequence[Variant], ends: Sequence[str], teacher: LoadedModel
) -> Waterfall:
    """The figures of all variants, in turns; the fastest of `ends` in several processes too."""
    spec, task = run.spec, run.spec.task
    rows = run.texts.examples("test", teacher).rows
    pad = teacher.tokenizer.pad_token_id
    found = measure(variants, rows, length=task.length, pad=pad, threads=run.threads, judged=True)
    instances = spec.instances or len(usable_cores())
    sizes = [size for size in (1, spec.batch) if size > 1 or instances > 1]
    if sizes:
        places = [place for place, one in enumerate(variants) if one.name in ends]
        best = max(places, key=lambda place: found[place].factor(found[0]))
        found += with_instances(
            found[best], variants[best], rows, pad=pad, instances=instances, threads=1, sizes=sizes
        )
    figures = Waterfall(
        title=f"{Path(teacher.name).name} on {Path(task.test).name}: what each step brought",
        rows=found,
        examples=len(rows),
        length=task.length,
        price_per_hour=spec.price_per_hour,
        notes=[IN_TURNS.format(threads=run.threads), *_lessons(variants)],
        machine=machine(),
        versions=versions(),
    )
    figures.save(run.out / FIGURES)
    return figures


def _lessons(variants: Sequence[Variant]) -> Iterator[str]:
    """How well the held-out texts judged each model that was trained, and after how many steps."""
    folders = {one.folder: one.name for one in reversed(variants)}
    for folder, name in reversed(folders.items()):
        if (folder / RECORD).is_file():
            found = Learned.load(folder)
            yield f"{name}: held-out {found.metric} {found.best:.4f} after {found.kept} steps"
