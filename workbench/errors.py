"""The one exception type for requests the workbench refuses, and how others are told."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


class WorkbenchError(ValueError):
    """A refusal whose message names what was found, what is allowed and what to do."""


def in_words(error: BaseException) -> str:
    """What a person is told of an exception that nobody foresaw."""
    text = str(error)
    if isinstance(error, MemoryError) or "t allocate memory" in text or "not enough memory" in text:
        return (
            "there is not enough memory for it here, and nothing has changed: take a smaller "
            "model, fewer or shorter samples, or smaller batches."
        )
    return f"{type(error).__name__}: {text}"


def complaint(error: "ValidationError") -> str:
    """Which field pydantic refused first, why, and what came instead."""
    first: Any = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    given = (
        "" if first["type"] in ("missing", "json_invalid") else f" (found {first['input']!r:.80})"
    )
    return f"{field + ': ' if field else ''}{first['msg']}{given}"
