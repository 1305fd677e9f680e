"""What two models make of a text or a picture: how they go on, how alike two are, which class."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from workbench.chat import Answer, Chat, ChatSettings, first_divergence
from workbench.chat.conversation import cleaned
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel
from workbench.progress import track

if TYPE_CHECKING:
    from PIL.Image import Image

NEW_TOKENS = 48
TOP = 5  # classes

Answers = dict[str, Any]


def answered(loaded: LoadedModel, a: nn.Module, b: nn.Module, text: str, other: str) -> Answers:
    """Put `text` (for an encoder beside `other`) to both models; `kind` tells the form.

    Raises WorkbenchError where a text is empty or too long, or the models look at pictures.
    """
    if loaded.kind not in KINDS:
        raise WorkbenchError(f"{loaded.name} reads no text: give it a picture (PNG or JPEG).")
    return {"kind": loaded.kind, **KINDS[loaded.kind](loaded, {"a": a, "b": b}, text, other)}


def pictured(loaded: LoadedModel, a: nn.Module, b: nn.Module, picture: "Image") -> Answers:
    """Show `picture` to both models; raises WorkbenchError where they read text."""
    if loaded.kind != "image-classifier":
        raise WorkbenchError(f"{loaded.name} sees no pictures: give it a text.")
    (batch,) = loaded.picture_batches([picture])
    return {"kind": loaded.kind, **_classes(loaded, {"a": a, "b": b}, batch)}


def _continued(loaded: LoadedModel, models: dict[str, nn.Module], text: str, _: str) -> Answers:
    """The greedy continuations; `common` counts the characters before they part (None: never)."""
    chat = Chat(models, loaded.tokenizer, ChatSettings(max_new_tokens=NEW_TOKENS))
    steps = track(range(2 * NEW_TOKENS), "answering")  # whose every step may be cancelled

    def notice(answer: Answer) -> None:
        if not answer.ended:
            next(steps, None)

    answers = chat.ask(text, notice)
    at, common = first_divergence(answers), None
    if at is not None:
        same = loaded.tokenizer.decode(answers[0].tokens[:at], skip_special_tokens=True)
        common = len(same)
    return {
        "a": answers[0].text,
        "b": answers[1].text,
        "common": common,
        "same_tokens": at,
        "tokens": max(len(answer.tokens) for answer in answers),
    }


def _alike(loaded: LoadedModel, models: dict[str, nn.Module], text: str, other: str) -> Answers:
    """The cosine of both texts' embeddings under each model."""
    texts = [cleaned(text), cleaned(other)]
    pairs = {name: loaded.embed(model, texts) for name, model in models.items()}
    return {name: float(first @ second) for name, (first, second) in pairs.items()}


def _classified(loaded: LoadedModel, models: dict[str, nn.Module], text: str, _: str) -> Answers:
    (batch,) = loaded.text_batches([cleaned(text)])
    return _classes(loaded, models, batch)


@torch.inference_mode()
def _classes(
    loaded: LoadedModel, models: dict[str, nn.Module], batch: dict[str, torch.Tensor]
) -> Answers:
    """The likeliest classes of each model with their probabilities."""
    config: Any = loaded.model.config
    found: Answers = {}
    for name, model in models.items():
        shares, classes = model(**batch).logits[0].softmax(-1).sort(descending=True)
        found[name] = [
            {"label": str(config.id2label[int(index)]), "probability": float(share)}
            for share, index in zip(shares[:TOP], classes[:TOP], strict=True)
        ]
    return found


KINDS: dict[str, Callable[[LoadedModel, dict[str, nn.Module], str, str], Answers]] = {
    "causal-lm": _continued,
    "encoder": _alike,
    "classifier": _classified,
}
