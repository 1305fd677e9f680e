"""Classification of labelled texts: SST-2 for classifiers, topics of AG News for encoders."""

import csv
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from workbench.compare.tasks.documents import Document, Text
from workbench.compare.tasks.scores import TaskScores, digest
from workbench.errors import WorkbenchError, complaint
from workbench.progress import track

if TYPE_CHECKING:
    from workbench.models import LoadedModel


class Labelled(Document):
    """A text and its class: a number, or a name."""

    text: Text
    label: Text


def read_table(path: Path, text: str, label: str, names: Sequence[str] | None) -> list[Labelled]:
    """Read columns `text` and `label` of a tab-separated file; `names` where it has no header.

    Quotes are characters like any other. Raises WorkbenchError naming the line, what was found and
    what is allowed.
    """
    with _table(path, names) as table:
        rows = list(table)
    if not rows:
        raise WorkbenchError(f"{path} holds no document; give at least one line of text and label.")
    _demand(path, rows[0], (text, label))
    found = []
    for number, row in enumerate(rows, start=1 if names else 2):
        try:
            found.append(Labelled.model_validate({"text": row[text], "label": row[label]}))
        except ValidationError as error:
            raise WorkbenchError(f"{path}, line {number}: {complaint(error)}") from error
    return found


def check_header(path: Path, text: str, label: str) -> None:
    """Raise WorkbenchError where a table lacks a column; its rows are not looked at."""
    with _table(path, None) as table:
        _demand(path, table.fieldnames or (), (text, label))


@contextmanager
def _table(path: Path, names: Sequence[str] | None) -> Iterator["csv.DictReader[str]"]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield csv.DictReader(file, names, delimiter="\t", quoting=csv.QUOTE_NONE)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorkbenchError(f"{path} cannot be read as tab-separated text: {error}") from error


def _demand(path: Path, columns: Collection[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise WorkbenchError(
            f"{path} has no column {missing[0]!r}; its columns are: {', '.join(columns)}."
        )


@torch.inference_mode()
def classification_scores(
    model: nn.Module,
    loaded: "LoadedModel",
    documents: Sequence[Labelled],
    *,
    task: str,
    batch_size: int = 32,
    seed: int = 0,
) -> TaskScores:
    """Whether a classifier names the class of each text.

    A label is the number of a class, or its name in the model's configuration. Raises
    WorkbenchError where it is neither.
    """
    labels = torch.tensor([_class(model.config, document.label, task) for document in documents])
    batches = loaded.text_batches([document.text for document in documents], batch_size)
    chosen = [model(**batch).logits.argmax(-1) for batch in track(batches, task)]
    return _scores(task, documents, torch.cat(chosen) == labels, seed)


def _class(config: Any, label: str, task: str) -> int:
    """The number of the class `label`."""
    known: dict[int, str] = config.id2label
    for number, name in known.items():
        if label in (str(number), name):
            return int(number)
    raise WorkbenchError(
        f"{task} has label {label!r}, which is none of the model's {len(known)} classes: "
        f"{', '.join(f'{number} ({name})' for number, name in known.items())}."
    )


def neighbour_scores(
    model: nn.Module,
    loaded: "LoadedModel",
    documents: Sequence[Labelled],
    *,
    task: str,
    seed: int = 0,
) -> TaskScores:
    """Whether the text nearest to each (cosine of embeddings, itself left out) has its label."""
    if len(documents) < 2:
        raise WorkbenchError(f"{task} has one document; a nearest neighbour needs another.")
    embedded = loaded.embed(model, [document.text for document in documents])
    nearest = (embedded @ embedded.T).fill_diagonal_(-torch.inf).argmax(-1)
    labels = [document.label for document in documents]
    right = torch.tensor([labels[i] == labels[j] for i, j in enumerate(nearest.tolist())])
    return _scores(task, documents, right, seed)


def _scores(task: str, documents: Sequence[Labelled], right: Tensor, seed: int) -> TaskScores:
    return TaskScores(
        task=task,
        metric="acc",
        higher_is_better=True,
        binary=True,
        scores=right.double().tolist(),
        documents=digest(documents),
        seed=seed,
    )
