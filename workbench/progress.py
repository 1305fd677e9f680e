"""Progress and cancellation for long loops, without passing either through every signature."""

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")


class Cancelled(Exception):
    """Raised inside a verb, between two batches or layers, after its job was cancelled."""


class Reporter(Protocol):
    """Whoever wants to know how far a loop has come, and may stop it."""

    def update(self, what: str, done: int, total: int | None) -> None:
        """Take note that `done` of `total` steps of `what` are finished."""

    def check(self) -> None:
        """Raise `Cancelled` if the work should stop."""


_reporter: ContextVar[Reporter | None] = ContextVar("workbench_reporter", default=None)


@contextmanager
def reporting(reporter: Reporter) -> Iterator[None]:
    """Send the progress of every `track` loop inside the block to `reporter`."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)


def track(iterable: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield from `iterable`, reporting each step; raises `Cancelled` before a step if asked to."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    reporter = _reporter.get()
    if reporter is None:
        yield from iterable
        return
    reporter.update(what, 0, total)
    for done, item in enumerate(iterable, start=1):
        reporter.check()
        yield item
        reporter.update(what, done, total)
