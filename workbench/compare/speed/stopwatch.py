"""A model, the prompt that it is timed on, and one run of each kind."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from workbench.compare.layers import head
from workbench.compare.speed.timing import timed
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.models import LoadedModel

PREFILL_TOKENS = 512
DECODE_TOKENS = 16
WARM_UP = 2


class Stopwatch:
    """Times one run of `model` on a prompt: of a text, or of a picture."""

    def __init__(self, model: nn.Module, loaded: "LoadedModel") -> None:
        self.model, self.inputs = model, _prompt(loaded)
        self.decodes = head(model) is not None

    @property
    def tokens(self) -> int:
        """Tokens of the prompt; 0 of a picture."""
        return self.inputs["input_ids"].shape[1] if "input_ids" in self.inputs else 0

    def prefill(self, *, cache: bool) -> tuple[float, Any]:
        """Milliseconds of the prompt, and the output."""
        if self.decodes:
            return timed(partial(self.model, **self.inputs, use_cache=cache))
        return timed(partial(self.model, **self.inputs))

    def decode(self, output: Any) -> float:
        """Milliseconds per token over greedy steps of one token each after a prefill."""
        cache, total = output.past_key_values, 0.0
        for _ in range(DECODE_TOKENS):
            token = output.logits[:, -1:].argmax(-1)
            step = partial(self.model, input_ids=token, past_key_values=cache, use_cache=True)
            milliseconds, output = timed(step)
            total += milliseconds
        return total / DECODE_TOKENS

    def inside(self, modules: Mapping[str, nn.Module]) -> tuple[float, dict[str, float]]:
        """Milliseconds of a prefill in which each of `modules` is watched, and of each of them.

        Watching costs, so that such a prefill is no measure of one that is not watched.
        """
        with _watched(modules) as spent:
            whole, _ = self.prefill(cache=False)
        return whole, {name: 1e3 * seconds for name, seconds in spent.items()}


def check(threads: int | None, runs: int) -> None:
    """Raise WorkbenchError for fewer than 2 runs or less than one thread."""
    if runs < 2:
        raise WorkbenchError(f"runs is {runs}; a median with a spread needs at least 2.")
    if threads is not None and threads < 1:
        raise WorkbenchError(f"threads is {threads}; give at least 1, or None for all.")


def _prompt(loaded: "LoadedModel") -> dict[str, Tensor]:
    """One unpadded evaluation sequence, leaving room for the tokens to decode; or one picture."""
    if loaded.kind == "image-classifier":
        from PIL import Image

        return loaded.picture_batches([Image.new("RGB", (64, 64))])[0]
    limit = getattr(loaded.model.config, "max_position_embeddings", None)
    if loaded.kind == "causal-lm":
        length = min(PREFILL_TOKENS, (limit or PREFILL_TOKENS + DECODE_TOKENS) - DECODE_TOKENS)
        batch = loaded.batches("evaluation", samples=1, length=length, batch_size=1)[0]
        return {"input_ids": batch["input_ids"]}
    length = min(PREFILL_TOKENS, limit or PREFILL_TOKENS)
    text = " ".join(loaded.sentences("evaluation"))
    ids = loaded.tokenizer(text, truncation=True, max_length=length, return_tensors="pt")
    return {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"]}


@contextmanager
def _watched(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, float]]:
    """Collect the seconds that each of `modules` takes, by wrapping its `forward`."""
    spent: dict[str, float] = {}

    def wrap(name: str, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def spending(*args: Any, **kwargs: Any) -> Tensor:
            start = time.perf_counter()
            result = forward(*args, **kwargs)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
            return result

        return spending

    try:
        for name, module in modules.items():
            module.forward = wrap(name, module.forward)  # type: ignore[method-assign]
        yield spent
    finally:
        for module in modules.values():
            module.__dict__.pop("forward", None)
