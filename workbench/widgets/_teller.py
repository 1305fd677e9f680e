"""News told from a thread of its own, so that whoever computes never waits for a message."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

SHARE = 0.02  # of the time, at most, that is spent on telling
LONGEST = 0.25  # seconds between two news all the same


class Teller:
    """Calls `tell` after `hint`: the first time at once, then at most every `pause` seconds.

    Where telling takes long, the pauses grow with it, up to a quarter of a second.

    A message to a browser takes half a millisecond to write, and then the interpreter's lock is
    with the threads that send it: a decoding loop that wrote it itself waited several for its turn.
    """

    def __init__(self, tell: Callable[[], None], pause: float) -> None:
        self._tell, self._pause = tell, pause
        self._news, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)

    def hint(self) -> None:
        """There is news; returns without waiting for anyone."""
        self._news.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread; what was not told by then is not told."""
        self._over.set()
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        while self._news.wait() and not self._over.is_set():
            self._news.clear()
            begun = time.perf_counter()
            self._tell()
            took = time.perf_counter() - begun
            self._over.wait(max(self._pause, min(took / SHARE, LONGEST)))
