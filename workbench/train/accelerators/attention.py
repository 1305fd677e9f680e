"""The other implementation of attention: at short lengths the plain one may win."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workbench.train.accelerators.base import Accelerator

OTHER = {"sdpa": "eager", "eager": "sdpa"}


class Attention(Accelerator):
    """Eager attention for sdpa, or the other way round, on a processor."""

    name = "attention"
    brings = "the implementation of attention that is faster at these lengths"
    changes = "rounding, and which values dropout drops"

    def obstacle(self, trainer: Any) -> str | None:
        """The model has one implementation, or another device has better ones."""
        if trainer.args.device.type != "cpu":
            return "a choice for processors only"
        model = trainer.model
        if trainer.lesson is not None and trainer.lesson.how.attention:
            return "a teacher shows its attention maps, which one implementation gives"
        if not hasattr(model, "set_attn_implementation"):
            return "the model does not let its attention be chosen"
        if model.config._attn_implementation not in OTHER:
            return f"attention is {model.config._attn_implementation}, which was asked for"
        other = OTHER[model.config._attn_implementation]
        if other == "sdpa" and not getattr(model, "_supports_sdpa", False):
            return "the model has no other attention"
        return None

    @contextmanager
    def on(self, trainer: Any) -> Iterator[None]:
        """Take the other one."""
        model = trainer.model
        before = model.config._attn_implementation
        model.set_attn_implementation(OTHER[before])
        try:
            yield
        finally:
            model.set_attn_implementation(before)
