"""Measure many points, on whatever executor there is."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from workbench.errors import WorkbenchError
from workbench.progress import track

DISTRIBUTION = "quantization-workbench"
P = TypeVar("P", bound=Hashable)
R = TypeVar("R")


def sweep(
    measure: Callable[[P], R], points: Iterable[P], executor: Executor | None = None
) -> dict[P, R]:
    """Return `measure(point)` of every one of `points`, each measured once, in their order.

    Without an `executor` they are measured here, one after the other. Otherwise each is a task of
    its own, so that a scheduler which repeats the tasks of a lost worker, as Dask's does, loses
    nothing: `measure` must be a function of a module that the workers can import too. What is not
    measured yet is cancelled on an error or a cancel. Raises WorkbenchError where workers lack this
    package, have it in another version, or are all gone.
    """
    points = list(dict.fromkeys(points))
    if executor is None:
        return {point: measure(point) for point in track(points, "measuring")}
    _check_workers(executor)
    tasks = {executor.submit(measure, point): point for point in points}
    found: dict[P, R] = {}
    try:
        for task in track(_completed(tasks), "measuring", len(tasks)):
            found[tasks[task]] = task.result()
    except BrokenProcessPool as error:
        raise WorkbenchError(
            f"a worker died after {len(found)} of {len(points)} points, and a process pool does "
            "not replace it: use one with more memory, or an executor that repeats lost tasks"
        ) from error
    finally:
        for task in tasks:
            task.cancel()
    return {point: found[point] for point in points}


def _completed(tasks: Iterable[Future[Any]]) -> Iterator[Future[Any]]:
    yield from as_completed(list(tasks))


def _check_workers(executor: Executor) -> None:
    """Ask a worker for its version of this package, by a function that it has in any case."""
    kind, ours = type(executor).__name__, version(DISTRIBUTION)
    try:
        theirs = executor.submit(version, DISTRIBUTION).result()
    except (PackageNotFoundError, ModuleNotFoundError) as error:
        raise WorkbenchError(
            f"the workers of this {kind} lack {DISTRIBUTION}: install version {ours} where they run"
        ) from error
    if theirs != ours:
        raise WorkbenchError(
            f"the workers of this {kind} have {DISTRIBUTION} {theirs}, this process {ours}: "
            "install the same version in both"
        )
