"""How long the rows of the training data are, and what a batch of them looks like."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.train.trainer import WorkbenchTrainer

Batch = dict[str, Any]

BATCHES_SORTED = 8  # drawn together and sorted: transformers takes 50, which learned less well


@dataclass(frozen=True)
class Rows:
    """The training data as the loader reads them: rows, how a batch is made, and lengths."""

    source: Any
    dataset: Any
    collate: Callable[[list[Any]], Any]
    lengths: Sequence[int] | None


def rows_of(trainer: "WorkbenchTrainer") -> Rows:
    """The trainer's rows, looked at once; random numbers are as before."""
    if trainer.rows is None or trainer.rows.source is not trainer.train_dataset:
        with torch.random.fork_rng():
            loader = trainer.get_train_dataloader()
        lengths = _lengths(trainer.train_dataset) if can_be_reread(trainer) else None
        trainer.rows = Rows(trainer.train_dataset, loader.dataset, loader.collate_fn, lengths)
    return trainer.rows


def lengths_of(trainer: "WorkbenchTrainer") -> Sequence[int] | None:
    """Tokens of every row, padding not counted; None where rows have none that can be told."""
    return rows_of(trainer).lengths


def lengths_vary(trainer: "WorkbenchTrainer") -> bool:
    """Whether rows are known to have more than one length."""
    lengths = lengths_of(trainer)
    return lengths is not None and min(lengths) != max(lengths)


def collate(trainer: "WorkbenchTrainer", numbers: Iterable[int]) -> Batch:
    """The batch of these rows, as a training step gets it.

    Raises WorkbenchError where the collator makes no dictionary.
    """
    rows = rows_of(trainer)
    batch = rows.collate([rows.dataset[i] for i in numbers])
    if not isinstance(batch, Mapping):
        raise WorkbenchError(
            f"the data collator gives a {type(batch).__name__}, where a dictionary of tensors is "
            "allowed: name what the model takes"
        )
    return dict(batch)


def first_rows(trainer: "WorkbenchTrainer", count: int, skip: int = 0) -> Batch:
    """The batch of some of the first training rows, which begin anew after the last.

    Raises WorkbenchError where the data are a stream.
    """
    if not can_be_reread(trainer):
        raise WorkbenchError(
            "the training data are a stream, of which no row can be looked at beforehand: give a "
            "data set with a length and numbered rows"
        )
    rows = len(trainer.train_dataset)
    wanted = [(skip + i) % rows for i in range(count)]
    return dict(trainer._prepare_inputs(collate(trainer, wanted)))


def batches_by_length(
    lengths: Sequence[int], size: int, seed: int, epoch: int, together: int = BATCHES_SORTED
) -> tuple[list[list[int]], list[list[int]]]:
    """Rows in batches of about one length, shuffled by `seed` and `epoch`, and a last short batch.

    So many batches are drawn `together` and sorted: more have less padding, and are less alike.
    transformers' own order draws from the global generator: a resumed run would see other batches.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    pool = size * together
    batches = []
    for start in range(0, len(order), pool):
        rows = sorted(order[start : start + pool], key=lambda i: lengths[i], reverse=True)
        batches += [rows[i : i + size] for i in range(0, len(rows), size)]
    short = [batches.pop()] if len(batches[-1]) < size else []
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()], short


def can_be_reread(trainer: "WorkbenchTrainer") -> bool:
    """Whether single rows can be looked at without using up the data."""
    rows = trainer.train_dataset
    stream = isinstance(rows, IterableDataset)
    return not stream and hasattr(rows, "__getitem__") and hasattr(rows, "__len__")


def sample_batch(trainer: "WorkbenchTrainer") -> Batch | None:
    """A batch of up to four rows, the shortest and the longest among them; None of a stream."""
    if not can_be_reread(trainer):
        return None
    return _fed(trainer, by_length(trainer, 4))


def pads_to_the_longest(trainer: "WorkbenchTrainer") -> bool:
    """Whether a batch of short rows is narrower than one of long rows."""
    rows = by_length(trainer, 4)
    short, long = (_fed(trainer, [row] * 2).get("input_ids") for row in (rows[0], rows[-1]))
    if not (isinstance(short, Tensor) and isinstance(long, Tensor)):
        return False
    return short.shape[-1] < long.shape[-1]


def _fed(trainer: "WorkbenchTrainer", numbers: Iterable[int]) -> Batch:
    """A batch after what switched-on accelerators change in it."""
    batch = collate(trainer, numbers)
    for change in trainer.rebatch:
        batch = change(batch)
    return batch


def by_length(trainer: "WorkbenchTrainer", count: int) -> list[int]:
    """Up to `count` rows from the shortest to the longest, at even distances."""
    lengths = lengths_of(trainer)
    if lengths is None:
        return list(range(min(count, len(trainer.train_dataset))))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    picked = [round(i * (len(order) - 1) / (count - 1)) for i in range(count)]
    return [order[i] for i in dict.fromkeys(picked)]


def _lengths(dataset: Any) -> list[int] | None:
    if not len(dataset):
        return None
    first = dataset[0]
    if not isinstance(first, Mapping):
        return None
    name = next((n for n in ("attention_mask", "input_ids") if n in first), None)
    if name is None or not hasattr(first[name], "__len__"):
        return None
    columns = getattr(dataset, "column_names", None)  # of the `datasets` package: by the column
    values = dataset[name] if columns else (row[name] for row in dataset)
    if name == "attention_mask":
        return [int(sum(value)) for value in values]
    return [len(value) for value in values]
