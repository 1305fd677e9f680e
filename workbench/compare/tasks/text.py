"""Perplexity by strided windows: every token is predicted once, with at least so much before it."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.compare.tasks.scores import TaskScores, digest
from workbench.errors import WorkbenchError
from workbench.progress import track

if TYPE_CHECKING:
    from workbench.models import LoadedModel


@torch.inference_mode()
def perplexity_scores(
    model: nn.Module,
    loaded: "LoadedModel",
    *,
    task: str = "perplexity",
    text: Path | None = None,
    length: int = 256,
    stride: int = 128,
    limit: int | None = None,
    seed: int = 0,
) -> TaskScores:
    """Loss in nats per token of a language model on each window of a text, weighted by tokens.

    Windows of `length` tokens start every `stride` of them; a token counts in the first window that
    holds it, so that all but the first window's have at least `length - stride` tokens before them
    (Press et al. 2021). The first `limit` windows of the pinned evaluation text, or of the UTF-8
    file `text`. `others["perplexity"]` is the exponential of the mean.

    Raises WorkbenchError where the windows do not fit the model, or the text is too short.
    """
    _check(model, length, stride)
    ids = loaded.tokens("evaluation", text)
    if len(ids) < 2:
        raise WorkbenchError(f"the text has {len(ids)} tokens: there is nothing to predict.")
    starts = list(range(0, max(1, len(ids) - (length - stride)), stride))[:limit]
    scores, weights, judged = [], [], 0
    for start in track(starts, task):
        window = torch.tensor(ids[start : start + length])
        fresh = start + len(window) - max(judged, start + 1)  # the first token follows nothing
        judged = start + len(window)
        scores.append(_loss(model, window, fresh))
        weights.append(float(fresh))
    mean = sum(s * w for s, w in zip(scores, weights, strict=True)) / sum(weights)
    return TaskScores(
        task=task,
        metric="nats per token",
        higher_is_better=False,
        binary=False,
        scores=scores,
        weights=weights,
        documents=digest([length, stride, *ids[:judged]]),
        seed=seed,
        others={"perplexity": float(torch.tensor(mean).double().exp())},
    )


def _loss(model: nn.Module, window: Tensor, fresh: int) -> float:
    """Mean loss of the last `fresh` tokens of `window` [T]."""
    logits = model(input_ids=window[None]).logits[0, -fresh - 1 : -1].float()
    return F.cross_entropy(logits, window[-fresh:]).item()


def _check(model: nn.Module, length: int, stride: int) -> None:
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and length > longest:
        raise WorkbenchError(
            f"windows of {length} tokens are longer than the model's context of {longest}."
        )
    if not 1 <= stride < length:
        raise WorkbenchError(
            f"stride is {stride}; allowed: 1 to {length - 1}, less than a window of {length}."
        )
