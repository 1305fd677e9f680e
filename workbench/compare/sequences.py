"""What each sequence costs a model, so that two models can be paired sequence by sequence."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench import metrics
from workbench.compare.quality import predictions
from workbench.compare.tasks.scores import TaskScores, digest
from workbench.errors import WorkbenchError
from workbench.progress import track

Scores = tuple[list[float], list[float] | None]
"""A score for each sequence of a batch, and its weight where not all weigh the same."""


@torch.inference_mode()
def sequence_scores(
    models: Mapping[str, nn.Module],
    reference: nn.Module,
    batches: Iterable[dict[str, Tensor]],
    *,
    seed: int = 0,
) -> dict[str, TaskScores]:
    """Score several models on each sequence of `batches`, for `differences` to pair.

    Of a language model the loss in nats a token, weighted by tokens; of an encoder the cosine of
    each embedding to the reference's; of a classifier the divergence of its classes from the
    reference's. Raises WorkbenchError where there is nothing to score.
    """
    found: dict[str, list[Scores]] = {name: [] for name in models}
    judged, kind = [], None
    for batch in track(batches, "pairing sequences"):
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        expected = reference(**inputs)
        kind = next((kind for kind in KINDS if kind.suits(expected)), None)
        if kind is None:
            raise WorkbenchError(
                f"The model returned a {type(expected).__name__} with neither logits nor "
                "last_hidden_state; pair causal language models, encoders or classifiers."
            )
        for name, model in models.items():
            output = expected if model is reference else model(**inputs)
            found[name].append(kind.scores(batch, expected, output))
        judged += _documents(batch)
    if kind is None:
        raise WorkbenchError("There are no batches to compare on; give at least one.")
    documents = digest(judged)
    return {
        name: TaskScores(
            task="held-out sequences",
            metric=kind.metric,
            higher_is_better=kind.higher_is_better,
            binary=False,
            scores=[score for scores, _ in parts for score in scores],
            weights=[weight for _, weights in parts for weight in weights or []] or None,
            documents=documents,
            seed=seed,
        )
        for name, parts in found.items()
    }


@dataclass(frozen=True)
class Kind:
    """How the outputs of one kind of model are told and scored."""

    metric: str
    higher_is_better: bool
    suits: Callable[[Any], bool]
    scores: Callable[[dict[str, Tensor], Any, Any], Scores]


def _documents(batch: dict[str, Tensor]) -> list[Any]:
    """What tells each sequence or picture of a batch from others."""
    if "input_ids" in batch:
        return batch["input_ids"].tolist()
    rows = batch["pixel_values"].cpu().contiguous().numpy()
    return [hashlib.sha256(row.tobytes()).hexdigest() for row in rows]


def _losses(batch: dict[str, Tensor], _expected: Any, found: Any) -> Scores:
    scores, weights = [], []
    for row in range(len(found.logits)):
        one = {name: value[row : row + 1] for name, value in batch.items()}
        logits, targets = predictions(one, found.logits[row : row + 1])
        if len(targets):
            scores.append(F.cross_entropy(logits, targets).item())
            weights.append(float(len(targets)))
    return scores, weights


def _cosines(batch: dict[str, Tensor], expected: Any, found: Any) -> Scores:
    mask = batch.get("attention_mask")
    pooled = [metrics.mean_pool(output.last_hidden_state, mask) for output in (expected, found)]
    return metrics.cosine(*pooled).tolist(), None


def _divergences(_batch: dict[str, Tensor], expected: Any, found: Any) -> Scores:
    return metrics.kl_divergence(expected.logits, found.logits).tolist(), None


def _logits_of(dimensions: int) -> Callable[[Any], bool]:
    return lambda output: getattr(getattr(output, "logits", None), "ndim", None) == dimensions


KINDS = (
    Kind("loss, nats a token", False, _logits_of(3), _losses),
    Kind("divergence from the float classes, nats", False, _logits_of(2), _divergences),
    Kind(
        "cosine to the float embedding",
        True,
        lambda output: getattr(output, "last_hidden_state", None) is not None,
        _cosines,
    ),
)
