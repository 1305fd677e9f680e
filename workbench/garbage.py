"""No looking for garbage where it costs time that is waited for, or measured."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage inside the block.

    As in a measurement, and in imports: torch and transformers make more than a million objects
    while they are imported, and all of them stay: looking through them over and over takes as long
    as the imports themselves.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
