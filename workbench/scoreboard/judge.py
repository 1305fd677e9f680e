"""Models and recipes judged on tasks beside their originals.

Every measured figure is kept under a key of all it depends on, so that a run that was interrupted,
or is given more models, measures only what is missing.
"""

import copy
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import nn

from workbench.compare import (
    Speed,
    TaskScores,
    bytes_on_disk,
    differences,
    evaluate,
    machine,
    measure_all,
    versions,
)
from workbench.compare.tasks import default_tasks, file_of
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel, save
from workbench.models.atomic import write_text
from workbench.progress import track
from workbench.recipe import Recipe
from workbench.scoreboard.board import Judged, Kept, Scoreboard
from workbench.session import Session
from workbench.session.keys import result_key

RUNS = 7  # timings of each kind


def judge(
    recipes: Mapping[str, Recipe],
    tasks: Sequence[str] = (),
    *,
    data: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    report: Path | None = None,
) -> Scoreboard:
    """Evaluate the frozen model of each named recipe, and its float model, on `tasks`.

    See `workbench.evaluate` for tasks, `data`, `limit` and `seed`. The file `report` is read first,
    if it exists, and written after every figure: what it holds is not measured again.

    Raises WorkbenchError where `report` is no such file, and for whatever a task refuses.
    """
    kept = _read(report)
    judged: list[Judged] = []

    def board() -> Scoreboard:
        return Scoreboard(
            judged=judged, limit=limit, seed=seed, threads=torch.get_num_threads(),
            machine=machine(), versions=versions(), kept=kept,
        )  # fmt: skip

    def keep() -> None:
        if report is not None:
            write_text(report, board().model_dump_json(indent=1) + "\n")

    keep()  # an unwritable file is told before hours of work
    for name, recipe in track(list(recipes.items()), "models"):
        session = Session(recipe)
        try:
            names = list(tasks) or default_tasks(session.load().kind, data) or [""]
            judged.append(judge_one(name, session, names, data, limit, seed, kept, keep))
        finally:
            session.close()
        keep()
    return board()


def judge_one(
    title: str,
    session: Session,
    tasks: Sequence[str],
    data: Path | None,
    limit: int | None,
    seed: int,
    kept: Kept,
    keep: Callable[[], None],
    *,
    bf16: bool = False,
) -> Judged:
    """Judge the frozen model of `session` on these `tasks`, and with `bf16` the model in bfloat16.

    What `kept` holds is not measured again; `keep` is called after each figure put into it.
    """
    loaded, recipe = session.load(), session.recipe
    forms: dict[str, Callable[[], nn.Module]] = {"float": lambda: loaded.model}
    if bf16:
        forms["bf16"] = lambda: _bf16(loaded)
    forms["quantized"] = session.freeze
    found: dict[str, list[TaskScores]] = {form: [] for form in forms}
    for form, scores in found.items():
        plan = recipe.digest() if form == "quantized" else form
        for name in tasks:
            key = result_key(plan, session.model_digest, _documents(name, data, limit, seed))
            if key not in kept.scores:
                asked = [name] if name else []
                kept.scores[key] = evaluate(
                    forms[form](), loaded, asked, data=data, limit=limit, seed=seed
                )[0]
                keep()
            scores.append(kept.scores[key])
    key = result_key(recipe.digest(), session.model_digest, "size and speed")
    if key not in kept.speed:
        kept.bytes[key], kept.speed[key] = _size_and_speed(session, loaded)
        keep()
    return Judged(
        name=title,
        model=recipe.model,
        recipe=recipe.model_dump(mode="json"),
        tasks=differences(found["float"], found["quantized"], seed=seed),
        bf16=differences(found["float"], found["bf16"], seed=seed) if bf16 else [],
        bytes=kept.bytes[key],
        speed=kept.speed[key],
    )


def _size_and_speed(
    session: Session, loaded: LoadedModel
) -> tuple[dict[str, int], dict[str, Speed]]:
    forms = {
        "fp32": loaded.model,
        "bf16": _bf16(loaded),
        "quantized": session.freeze(),
    }
    with tempfile.TemporaryDirectory() as folder:
        sizes = {
            name: bytes_on_disk(save(model, Path(folder) / name)) for name, model in forms.items()
        }
    return sizes, measure_all(forms, loaded, runs=RUNS)


def _bf16(loaded: LoadedModel) -> nn.Module:
    return copy.deepcopy(loaded.model).to(torch.bfloat16)


def _documents(task: str, data: Path | None, limit: int | None, seed: int) -> str:
    """Name the documents of a task by their content, without reading them one by one."""
    file = file_of(task)
    content = ""
    if file is not None and data is not None:
        try:
            content = hashlib.sha256((data / file).read_bytes()).hexdigest()
        except OSError as error:
            raise WorkbenchError(f"{data / file} cannot be read: {error.strerror}") from error
    return f"{task} {content} {limit} {seed}"


def _read(report: Path | None) -> Kept:
    if report is None or not report.exists():
        return Kept()
    try:
        return Scoreboard.model_validate_json(report.read_bytes()).kept
    except (OSError, ValidationError) as error:
        raise WorkbenchError(
            f"{report} is not a scoreboard of ours, to be continued; name another file."
        ) from error


def read_recipes(names: Iterable[str]) -> dict[str, Recipe]:
    """A recipe for each name: a JSON file, or a model to be quantized as recipes do by default."""
    return {
        name: Recipe.load(Path(name)) if name.endswith(".json") else Recipe(model=name)
        for name in names
    }
