"""Texts as a trainer takes them: tokens and classes."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from workbench.errors import WorkbenchError

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
