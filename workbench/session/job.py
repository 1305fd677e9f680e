"""A piece of long work in the background: its state, progress, time left, and how to stop it."""

import threading
import time
from collections.abc import Callable
from typing import Any, Literal, Self

from workbench.errors import WorkbenchError, in_words
from workbench.progress import Cancelled, reporting

State = Literal["queued", "running", "cancelled", "failed", "done"]

NOTIFY_SECONDS = 0.1


class Job:
    """One call of a verb, run by a session's worker; read its attributes from any thread."""

    def __init__(self, verb: str, work: Callable[[], Any], notify: Callable[[], None]) -> None:
        self.verb = verb
        self.state: State = "queued"
        self.what = ""
        self.done = 0
        self.total: int | None = None
        self.remaining_s: float | None = None
        self.error: str | None = None
        self.result: Any = None
        self._work = work
        self._notify = notify
        self.paused = False
        self._stop = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self._finished = threading.Event()
        self._phase_started = 0.0
        self._phase_done = 0
        self._notified = 0.0

    def cancel(self) -> None:
        """Ask the work to stop; it does within one batch or one layer."""
        self._stop.set()
        self.resume()
        if self.state == "queued":
            self.state = "cancelled"
            self._end()

    def pause(self) -> None:
        """Hold the work before its next batch or layer, with all that it has in memory."""
        if not self.ended:
            self.paused = True
            self._go.clear()
            self._notify()

    def resume(self) -> None:
        """Let paused work go on."""
        if self.paused:
            self.paused = False
            self._go.set()
            self._notify()

    def wait(self, timeout: float | None = None) -> Self:
        """Block until the job has ended or `timeout` seconds are over; return the job."""
        self._finished.wait(timeout)
        return self

    @property
    def ended(self) -> bool:
        """Whether the job will not change any more."""
        return self.state in ("cancelled", "failed", "done")

    def update(self, what: str, done: int, total: int | None) -> None:
        """Take note of progress (`workbench.progress.Reporter`)."""
        now = time.monotonic()
        if done == 0 or what != self.what:
            self._phase_started, self._phase_done = now, 0
        self.what, self.done, self.total = what, done, total
        if total and done > self._phase_done:
            each = (now - self._phase_started) / (done - self._phase_done)
            self.remaining_s = each * (total - done)
        else:
            self.remaining_s = None
        if now - self._notified >= NOTIFY_SECONDS:
            self._notified = now
            self._notify()

    def check(self) -> None:
        """Wait while paused; raise `Cancelled` once `cancel` was called (`progress.Reporter`)."""
        if not self._go.is_set():
            self._go.wait()
            self._phase_started = time.monotonic()
            self._phase_done = self.done
        if self._stop.is_set():
            raise Cancelled

    def run(self) -> None:
        """Do the work; called once, by the worker."""
        if self.ended:
            return
        self.state = "running"
        self._notify()
        try:
            with reporting(self):
                self.check()
                self.result = self._work()
            self.state = "done"
        except Cancelled as reason:
            self.state = "cancelled"
            self.error = str(reason) or None
        except WorkbenchError as error:
            self.state, self.error = "failed", str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker must live and a person see it
            self.state, self.error = "failed", in_words(error)
        finally:
            self.remaining_s = None
            self._end()

    def _end(self) -> None:
        """Tell the watchers first, so that whoever waits finds them up to date."""
        try:
            self._notify()
        finally:
            self._finished.set()
