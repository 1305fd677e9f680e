"""Gather what a report says: judge the model of a recipe, and ask its session for the rest."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import ValidationError

from workbench.compare import machine, measure_layers, versions
from workbench.compare.tasks import default_tasks
from workbench.errors import WorkbenchError
from workbench.models import load
from workbench.observe import Entry
from workbench.recipe import Recipe
from workbench.report.document import Input, Report
from workbench.report.elsewhere import told
from workbench.scoreboard import Kept, Scoreboard, judge_one
from workbench.session import Session

LOUDEST = 5


def report(
    source: Path | str | Recipe,
    tasks: Sequence[str] = (),
    *,
    data: Path | str | None = None,
    limit: int | None = None,
    seed: int = 0,
    scores: Path | str | None = None,
) -> Report:
    """Judge a recipe, or the recipe of a checkpoint, and return everything as one document.

    `source` is a recipe, the file of one, a folder that `save` wrote, or the name of a model to be
    quantized as recipes do by default. Tasks, `data`, `limit` and `seed` are those of `evaluate`;
    figures that the file `scores` of `judge` holds are not measured again. What the report must
    warn of is in its `notices`, such as a checkpoint that its recipe does not make again.

    Raises WorkbenchError where `source` or `scores` cannot be read, and for what a task refuses.
    """
    recipe, folder = read_source(source)
    folder_of_data = None if data is None else Path(data)
    kept, notices = _kept(None if scores is None else Path(scores))
    title = recipe.model if isinstance(source, Recipe) else Path(source).resolve().name
    session = Session(recipe)
    try:
        loaded = session.load()
        names = list(tasks) or default_tasks(loaded.kind, folder_of_data)
        frozen = session.freeze()
        if folder is not None:
            notices += _otherwise(folder, frozen)
        judged = judge_one(
            title, session, names, folder_of_data, limit, seed, kept, _nothing, bf16=True
        )
        comparison, plan = session.compare(), session.plan
        assert plan is not None
        if not names:
            notices.append(
                "No task was judged: without a folder of data there is none for "
                f"models of the kind {loaded.kind}, so no difference could be told from chance."
            )
        return Report(
            title=title,
            kind=loaded.kind,
            note=loaded.note,
            parameters=loaded.parameters_count,
            made=datetime.now(UTC).replace(microsecond=0),
            notices=notices,
            judged=judged,
            comparison=comparison,
            layer_times={
                form: measure_layers(model, loaded)
                for form, model in (("fp32", loaded.model), ("quantized", frozen))
            },
            inputs=[_input(entry) for entry in session.observe()],
            plan=plan,
            code=recipe.to_code(),
            command=_command(tasks, data, limit, seed),
            limit=limit,
            seed=seed,
            machine=machine(),
            versions=versions(),
        )
    finally:
        session.close()


def read_source(source: Path | str | Recipe) -> tuple[Recipe, Path | None]:
    """The recipe of `source`, and its folder if it is a checkpoint."""
    if isinstance(source, Recipe):
        return source, None
    path = Path(source).expanduser()
    if path.suffix == ".json":
        return Recipe.load(path), None
    if (path / "recipe.json").is_file():
        return Recipe.load(path / "recipe.json"), path
    if (path / "workbench.json").is_file():
        raise WorkbenchError(
            f"{path} is a checkpoint without recipe.json, so that its original is not known; "
            "save it from a session, or give the recipe"
        )
    return Recipe(model=str(source)), None


def _otherwise(folder: Path, made: torch.nn.Module) -> list[str]:
    """Say where the tensors of a checkpoint are not those that its recipe makes here."""
    ours, theirs = made.state_dict(), load(folder).model.state_dict()
    odd = [
        name
        for name in sorted(ours.keys() | theirs.keys())
        if name not in ours or name not in theirs or not torch.equal(ours[name], theirs[name])
    ]
    if not odd:
        return []
    said = (
        f"The checkpoint {folder.name} is not what its recipe makes on this machine: {len(odd)} "
        f"of {len(ours)} tensors differ, the first {odd[0]}. The figures are of the model made "
        "anew, not of the checkpoint."
    )
    return [said]


def _kept(file: Path | None) -> tuple[Kept, list[str]]:
    """The figures of an earlier run, and a warning where it ran elsewhere."""
    if file is None:
        return Kept(), []
    try:
        board = Scoreboard.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise WorkbenchError(f"{file} is not a scoreboard of ours; name another file.") from error
    elsewhere = f"Figures kept in {file.name} may come from elsewhere."
    return board.kept, [f"{elsewhere} {why}" for why in told(board.machine, board.versions)]


def _input(entry: Entry) -> Input:
    values, channels = entry.absmax.topk(min(LOUDEST, entry.channels))
    return Input(
        name=entry.name,
        linears=entry.linears,
        ratio=entry.outlier_ratio,
        median=entry.absmax.median().item(),
        loudest=dict(zip(channels.tolist(), values.tolist(), strict=True)),
    )


def _command(tasks: Sequence[str], data: Path | str | None, limit: int | None, seed: int) -> str:
    parts = ["workbench", "report", "recipe.json", "--out", "report.html", "--seed", str(seed)]
    parts += ["--tasks", *tasks] if tasks else []
    parts += ["--data", str(data)] if data is not None else []
    parts += ["--limit", str(limit)] if limit is not None else []
    return shlex.join(parts)


def _nothing() -> None:
    """Every figure goes into the report."""
