"""The texts of a task, split by split, as a model reads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from workbench.compare.tasks.documents import drawn
from workbench.compare.tasks.labels import Labelled, check_header, read_table
from workbench.compress import Examples
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel
from workbench.recipe.compression import TextTask

Split = Literal["train", "held_out", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class TaskTexts:
    """The texts of a task, as many of each split as it says, drawn by `seed`.

    A split is read when it is first asked for, and once.
    """

    def __init__(self, task: TextTask, seed: int) -> None:
        self.task, self.seed = task, seed
        self._read: dict[Split, list[Labelled]] = {}

    def check(self) -> None:
        """Raise WorkbenchError where a split lacks a column; no text is read."""
        for split in SPLITS:
            check_header(Path(getattr(self.task, split)), self.task.text, self.task.label)

    def __getitem__(self, split: Split) -> list[Labelled]:
        """The texts of a split; raises WorkbenchError for a damaged file."""
        if split not in self._read:
            task = self.task
            limits = {"train": task.limit, "held_out": task.limit_held_out, "test": task.limit_test}
            found = read_table(Path(getattr(task, split)), task.text, task.label, None)
            self._read[split] = drawn(found, limits[split], self.seed)
        return self._read[split]

    def examples(self, split: Split, model: LoadedModel, limit: int | None = None) -> Examples:
        """The texts of a split, or `limit` of them drawn by the seed, as `model` reads them."""
        rows = drawn(self[split], limit, self.seed)
        return labelled_examples(rows, model, self.task.length, getattr(self.task, split))


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
