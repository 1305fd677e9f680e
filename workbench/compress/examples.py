"""Texts as a trainer takes them: tokens and classes, batches of one length each, in fixed order."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import Dataset, Sampler

from workbench.errors import WorkbenchError
from workbench.train.lengths import batches_by_length

Row = dict[str, Any]


class Examples(Dataset[Row]):
    """Tokenized texts, with the number of a class each where there are `labels`."""

    def __init__(
        self,
        tokenizer: Any,
        texts: Sequence[str],
        labels: Sequence[int] | None = None,
        *,
        length: int = 64,
    ) -> None:
        """Cut texts at `length` tokens; raises WorkbenchError where there are none, or odd ones."""
        if not texts:
            raise WorkbenchError("there are no texts to learn from; give at least one")
        if labels is not None and len(labels) != len(texts):
            raise WorkbenchError(f"{len(texts)} texts have {len(labels)} labels; give one for each")
        self.tokenizer = tokenizer
        found = tokenizer(list(texts), truncation=True, max_length=length)
        self.rows: list[Row] = [
            {name: found[name][i] for name in ("input_ids", "attention_mask")}
            for i in range(len(texts))
        ]
        for row, label in zip(self.rows, labels or (), strict=False):
            row["labels"] = label

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def digest(self) -> str:
        """A hash that equal examples share."""
        return hashlib.sha256(json.dumps(self.rows).encode()).hexdigest()[:16]


class ByLength(Sampler[int]):
    """A shuffle by `seed` and epoch in which neighbours are of about one length."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass whose order is next; trainers call it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        shuffled, short = batches_by_length(self.lengths, self.batch_size, self.seed, self.epoch)
        for batch in (*shuffled, *short):
            yield from batch
