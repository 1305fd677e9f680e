"""How good a language model is: perplexity on text, and completions that parse."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.compare.completion import parses
from workbench.errors import WorkbenchError
from workbench.progress import track

if TYPE_CHECKING:
    from workbench.models import LoadedModel, Prompt

NEW_TOKENS = 64
PROMPTS_AT_ONCE = 50
IGNORED = -100  # the label that transformers' losses skip


class Perplexity(BaseModel):
    """Mean loss in nats per token, its exponential, and over how many tokens."""

    model_config = ConfigDict(frozen=True)
    loss: float
    perplexity: float
    tokens: int


class ParseRate(BaseModel):
    """How many of `total` completions parsed."""

    model_config = ConfigDict(frozen=True)
    parsed: int
    total: int

    @property
    def rate(self) -> float:
        """The share that parsed, 0 to 1."""
        return self.parsed / self.total


def predictions(batch: dict[str, Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    """Pair the logits [n, V], in float32, with the tokens [n] that follow; padding is left out."""
    tokens = batch.get("labels", batch["input_ids"])
    keep = tokens[:, 1:] != IGNORED
    if "attention_mask" in batch:
        keep = keep & batch["attention_mask"][:, 1:].bool()
    return logits[:, :-1][keep].float(), tokens[:, 1:][keep]


def exponential(loss: float) -> float:
    """Perplexity of a mean loss, infinite where it leaves the range of floats."""
    return math.exp(loss) if loss < 700 else math.inf


@torch.inference_mode()
def perplexity(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> Perplexity:
    """Measure the perplexity of a causal language model, every token weighing the same.

    Raises `WorkbenchError` where the batches hold no token to predict.
    """
    total, count = 0.0, 0
    for batch in track(batches, "perplexity"):
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits, targets = predictions(batch, model(**inputs).logits)
        total += F.cross_entropy(logits, targets, reduction="sum").item()
        count += targets.numel()
    if count == 0:
        raise WorkbenchError(
            "The batches hold no token to predict; give sequences of at least two tokens."
        )
    return Perplexity(loss=total / count, perplexity=exponential(total / count), tokens=count)


def complete(model: nn.Module, tokenizer: Any, prompts: Sequence["Prompt"]) -> list[str]:
    """Continue every prompt by 64 greedy tokens; prompts of one call have the same length."""
    texts: list[str] = []
    chunks = [
        prompts[start : start + PROMPTS_AT_ONCE]
        for start in range(0, len(prompts), PROMPTS_AT_ONCE)
    ]
    for chunk in track(chunks, "completions"):
        ids = torch.stack([torch.as_tensor(prompt.ids).flatten() for prompt in chunk])
        with torch.inference_mode():
            out = model.generate(  # type: ignore[operator]
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                num_beams=1,
                use_cache=True,
                pad_token_id=tokenizer.pad_token_id,
            )
        texts += tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
    return texts


def parse_rate(
    loaded: "LoadedModel", model: nn.Module, prompts: Sequence["Prompt"] | None = None
) -> ParseRate:
    """Count the completions of `model` that parse, over the pinned prompts of `loaded`.

    See `workbench.compare.completion.parses` for what counts.
    """
    prompts = loaded.prompts() if prompts is None else prompts
    if not prompts:
        raise WorkbenchError("There are no prompts to complete; give at least one.")
    texts = complete(model, loaded.tokenizer, prompts)
    parsed = sum(parses(prompt.text, text) for prompt, text in zip(prompts, texts, strict=True))
    return ParseRate(parsed=parsed, total=len(prompts))
