"""What one model scored on one task, document by document, so that two runs can be paired."""

import hashlib
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class TaskScores(BaseModel):
    """Scores of one model on the documents of one task, in their order.

    `binary` scores are 1 where right and 0 where wrong. With `weights`, such as tokens, the mean
    is weighted. `documents` is a digest of what was judged; `truncated` counts requests that were
    cut on the left to fit the model; `others` holds further metrics as the task names them.
    """

    model_config = ConfigDict(frozen=True)
    task: str
    metric: str
    higher_is_better: bool
    binary: bool
    scores: list[float]
    weights: list[float] | None = None
    documents: str
    seed: int
    truncated: int = 0
    others: dict[str, float] = {}

    @property
    def mean(self) -> float:
        """The score over all documents."""
        weights = self.weights or [1.0] * len(self.scores)
        return sum(s * w for s, w in zip(self.scores, weights, strict=True)) / sum(weights)


def digest(documents: Iterable[object]) -> str:
    """A short name for these documents in this order."""
    text = "\x1e".join(repr(document) for document in documents)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
