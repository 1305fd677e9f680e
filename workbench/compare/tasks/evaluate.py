"""Judge one model on tasks by name: our own, and every one that lm-evaluation-harness knows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from workbench.compare.tasks.documents import drawn
from workbench.compare.tasks.harness import harness_scores
from workbench.compare.tasks.labels import (
    Labelled,
    classification_scores,
    neighbour_scores,
    read_table,
)
from workbench.compare.tasks.local import LOCAL
from workbench.compare.tasks.scores import TaskScores
from workbench.compare.tasks.text import perplexity_scores
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.models import LoadedModel
    from workbench.models.bundled import Kind


@dataclass(frozen=True)
class Question:
    """Which documents a task judges: `limit` of those in `file`, drawn by `seed`."""

    task: str
    file: Path | None
    limit: int | None
    seed: int

    def table(self, text: str, label: str, names: Sequence[str] | None = None) -> list[Labelled]:
        """The documents drawn from a table; see `read_table`."""
        assert self.file is not None
        return drawn(read_table(self.file, text, label, names), self.limit, self.seed)


@dataclass(frozen=True)
class Task:
    """A task of our own, for models of one `kind`, over `file` or the pinned text (None)."""

    kind: "Kind"
    file: str | None
    score: Callable[[nn.Module, "LoadedModel", Question], TaskScores]


def _perplexity(model: nn.Module, loaded: "LoadedModel", asked: Question) -> TaskScores:
    return perplexity_scores(
        model, loaded, task=asked.task, text=asked.file, limit=asked.limit, seed=asked.seed
    )


def _sst2(model: nn.Module, loaded: "LoadedModel", asked: Question) -> TaskScores:
    documents = asked.table("sentence", "label")
    return classification_scores(model, loaded, documents, task=asked.task, seed=asked.seed)


def _agnews(model: nn.Module, loaded: "LoadedModel", asked: Question) -> TaskScores:
    documents = asked.table("text", "topic", names=("text", "topic"))
    return neighbour_scores(model, loaded, documents, task=asked.task, seed=asked.seed)


TASKS: dict[str, Task] = {
    "perplexity": Task("causal-lm", None, _perplexity),
    "wikitext2": Task("causal-lm", "wikitext2/valid.txt", _perplexity),
    "agnews_neighbour": Task("encoder", "agnews/test.tsv", _agnews),
    "sst2": Task("classifier", "sst2/test.tsv", _sst2),
}


def file_of(task: str) -> str | None:
    """The file below the folder of data that `task` reads, None where it reads none."""
    known = TASKS.get(task) or LOCAL.get(task)
    return None if known is None else known.file


def default_tasks(kind: "Kind", data: Path | None) -> list[str]:
    """The tasks to judge a model of `kind` by, where the user names none."""
    own = [name for name, task in TASKS.items() if task.kind == kind]
    if data is None:
        return [name for name in own if name == "perplexity"]
    return [*own, *LOCAL] if kind == "causal-lm" else own


def evaluate(
    model: nn.Module,
    loaded: "LoadedModel",
    tasks: Sequence[str] = (),
    *,
    data: Path | str | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
) -> list[TaskScores]:
    """Score `model`, float or quantized from `loaded`, on each of `tasks` (default: of its kind).

    Names of `TASKS` are ours, of `LOCAL` lm-evaluation-harness's over files below `data`; any other
    is handed to the harness, which fetches it. `limit` documents are drawn by `seed`, the same
    for every model, so that `differences` can pair two runs.

    Raises WorkbenchError for a task of another kind of model, or documents that are not as they
    must be.
    """
    folder = None if data is None else Path(data)
    names = list(tasks) or default_tasks(loaded.kind, folder)
    if not names:
        raise WorkbenchError(
            f"there is no task for {loaded.name} without data; give a folder that holds "
            f"the files of {', '.join(n for n, t in TASKS.items() if t.kind == loaded.kind)}."
        )
    for name in names:
        kind = TASKS[name].kind if name in TASKS else "causal-lm"
        if kind != loaded.kind:
            raise WorkbenchError(
                f"task {name!r} judges a {kind}, but {loaded.name} is a {loaded.kind}; "
                f"allowed: {', '.join(default_tasks(loaded.kind, folder or Path())) or 'none'}."
            )
    return [_score(name, model, loaded, folder, limit, batch_size, seed) for name in names]


def _score(
    name: str,
    model: nn.Module,
    loaded: "LoadedModel",
    folder: Path | None,
    limit: int | None,
    batch_size: int,
    seed: int,
) -> TaskScores:
    task = TASKS.get(name)
    if task is None:
        return harness_scores(
            model, loaded.tokenizer, [name],
            data=folder, limit=limit, batch_size=batch_size, seed=seed,
        )[0]  # fmt: skip
    if task.file is not None and folder is None:
        raise WorkbenchError(f"{name} needs a folder of data with {task.file} in it; give one.")
    file = folder / task.file if folder is not None and task.file is not None else None
    return task.score(model, loaded, Question(name, file, limit, seed))
