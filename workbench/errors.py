"""The one exception type for requests the workbench refuses."""


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
