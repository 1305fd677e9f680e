"""What a session is apart from its verbs: a recipe with undo, a worker with jobs, and watchers."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from workbench.errors import WorkbenchError
from workbench.progress import Cancelled
from workbench.recipe import Recipe
from workbench.session.job import Job
from workbench.session.memory import trim

UNDO_STEPS = 200
F = TypeVar("F", bound=Callable[..., Any])

verbs: dict[str, Callable[..., Any]] = {}


def verb(function: F) -> F:
    """Register a method of `Session` as a verb that `submit` may run."""
    verbs[function.__name__] = function
    return function


class Core:
    """The recipe in force, the jobs, and whoever watches; `Session` adds what verbs compute."""

    def __init__(self, recipe: Recipe | str | None = None) -> None:
        self._recipe = Recipe(model=recipe) if isinstance(recipe, str) else recipe or Recipe()
        self.lock = threading.RLock()
        self.jobs: list[Job] = []
        self.past: list[Recipe] = []
        self.future: list[Recipe] = []
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="workbench")
        self._subscribers: list[Callable[[Any], None]] = []

    # The recipe

    @property
    def recipe(self) -> Recipe:
        """The recipe in force; `update` replaces it."""
        return self._recipe

    def update(self, recipe: Recipe) -> None:
        """Put `recipe` in force and drop only what it invalidates; `undo` takes it back."""
        with self.lock:
            if recipe == self._recipe:
                return
            self.past = [*self.past, self._recipe][-UNDO_STEPS:]
            self.future = []
            self._put(recipe)
        self._notify()

    def undo(self) -> None:
        """Go back to the recipe before the last change; raises WorkbenchError at the first."""
        with self.lock:
            if not self.past:
                raise WorkbenchError("nothing to undo: the session began with this recipe")
            *self.past, before = self.past
            self.future = [*self.future, self._recipe]
            self._put(before)
        self._notify()

    def redo(self) -> None:
        """Take back the last `undo`; raises WorkbenchError where there was none."""
        with self.lock:
            if not self.future:
                raise WorkbenchError("nothing to redo: no change was undone since the last edit")
            *self.future, after = self.future
            self.past = [*self.past, self._recipe]
            self._put(after)
        self._notify()

    def _replace(self, old: Recipe, new: Recipe) -> None:
        """Update to `new`, unless `old` was replaced meanwhile."""
        with self.lock:
            if self._recipe is not old:
                raise Cancelled("the recipe changed while this ran; run it again")
            self.update(new)

    def _put(self, recipe: Recipe) -> None:
        old, self._recipe = self._recipe, recipe
        self._invalidate(old, recipe)

    def _invalidate(self, old: Recipe, new: Recipe) -> None:
        """Drop the results that hold for `old` and not for `new`."""

    # The worker

    @property
    def job(self) -> Job | None:
        """The newest job."""
        return self.jobs[-1] if self.jobs else None

    def submit(self, verb: str, *arguments: Any) -> Job:
        """Queue a verb for the worker thread; return its job at once."""
        if verb not in verbs:
            raise WorkbenchError(f"verb {verb!r} is unknown; allowed: {', '.join(verbs)}")
        method = getattr(self, verb)
        return self.queue(verb, lambda: method(*arguments))

    def queue(self, name: str, work: Callable[[], Any]) -> Job:
        """Queue any work for the worker thread, as a job called `name`; return its job at once."""
        job = Job(name, work, self._notify)
        self.jobs.append(job)
        self._notify()
        self._worker.submit(job.run)
        self._worker.submit(trim)
        return job

    def close(self) -> None:
        """Cancel what runs or waits and end the worker thread."""
        for job in self.jobs:
            if not job.ended:
                job.cancel()
        self._worker.shutdown(wait=True, cancel_futures=True)

    # Whoever watches

    def subscribe(self, callback: Callable[[Self], None]) -> Callable[[], None]:
        """Call `callback(session)` after each change; return the function that ends this."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def _notify(self) -> None:
        for callback in tuple(self._subscribers):
            callback(self)

    def _commit(self, recipe: Recipe, **values: Any) -> None:
        """Put results in place, unless the recipe they belong to was replaced meanwhile."""
        with self.lock:
            if self._recipe is not recipe:
                raise Cancelled("the recipe changed while this ran; run it again")
            for name, value in values.items():
                setattr(self, name, value)
        self._notify()
