"""How much several instances of a model get through, each a process on cores of its own."""

import io
import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from workbench.compare.machine import usable_cores
from workbench.compare.speed.energy import counters, joules
from workbench.errors import WorkbenchError
from workbench.models import load
from workbench.ops.resident import proportional
from workbench.progress import track

ROUNDS = 5

Batch = Mapping[str, Tensor]
Load = Callable[[], nn.Module]


class Throughput(BaseModel):
    """What `instances` processes of `threads` threads each did with the same batches.

    `samples_per_second` is the median over `rounds` of them, `low` and `high` its quartiles;
    `p50_ms` and `p99_ms` are how long one batch took one instance. `bytes` is the memory of all
    instances by the system's account, with pages that they share counted once (None off Linux);
    `joules` the processor's energy for one sample (None where the machine does not show it).
    """

    model_config = ConfigDict(frozen=True)
    instances: int
    threads: int
    samples: int
    rounds: int
    samples_per_second: float
    low: float
    high: float
    p50_ms: float
    p99_ms: float
    bytes: int | None
    joules: float | None


def model_named(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The model that `workbench.load` finds; `partial(model_named, name)` suits `throughput`."""
    return load(name, dtype=dtype).model


def throughput(
    load: Load, batches: Sequence[Batch], *, instances: int, threads: int, rounds: int = ROUNDS
) -> Throughput:
    """Run keyword `batches` through `instances` processes, each with its own `load()`ed model.

    An instance takes the next batch as soon as it is done with one. Each is bound to `threads`
    cores that no other has, where the system can bind, and begins with a batch of every shape that
    is not timed.
    Weights that `load` maps from a file are in memory once for all of them.

    `load` is pickled, and a script that calls this needs its `if __name__ == "__main__"`. Raises
    WorkbenchError where there are too few cores, nothing to run, or an instance fails.
    """
    cores = usable_cores()
    if min(instances, threads) < 1 or instances * threads > len(cores):
        raise WorkbenchError(
            f"{instances} instances of {threads} threads need {instances * threads} cores; "
            f"allowed: 1 or more, together no more than the {len(cores)} of this process."
        )
    if not batches or rounds < 2:
        raise WorkbenchError(
            f"there are {len(batches)} batches and {rounds} rounds; give at least 1, and 2 rounds."
        )
    packed = io.BytesIO()
    torch.save([dict(batch) for batch in batches], packed)
    shares = [cores[index * threads : (index + 1) * threads] for index in range(instances)]
    samples = sum(len(next(iter(batch.values()))) for batch in batches)
    rates: list[float] = []
    latencies: list[float] = []
    with _started(load, packed.getvalue(), shares) as (workers, position):
        before = counters()
        for _ in track(range(rounds), f"throughput, {instances} x {threads}"):
            position.value = 0
            found = _ask(workers, "run")
            rates.append(samples / (max(end for _, end, _ in found) - min(s for s, _, _ in found)))
            latencies += [1e3 * seconds for _, _, each in found for seconds in each]
        spent = joules(before, counters())
        shared = _ask(workers, "bytes")
    low, median, high = statistics.quantiles(rates, n=4, method="inclusive")
    hundredths = statistics.quantiles(latencies, n=100, method="inclusive")
    return Throughput(
        instances=instances,
        threads=threads,
        samples=samples,
        rounds=rounds,
        samples_per_second=median,
        low=low,
        high=high,
        p50_ms=hundredths[49],
        p99_ms=hundredths[98],
        bytes=None if None in shared else sum(shared),
        joules=None if spent is None else spent / (rounds * samples),
    )


@contextmanager
def _started(
    load: Load, batches: bytes, shares: list[list[int]]
) -> Iterator[tuple[list[Connection], Any]]:
    """One process for each share of cores, warm, and their common position in the batches."""
    context = multiprocessing.get_context("spawn")  # threads do not survive a fork
    position = context.Value("l", 0)
    ends, processes = [], []
    try:
        for cores in shares:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_instance, args=(load, batches, cores, position, theirs), daemon=True
            )
            process.start()
            theirs.close()
            ends.append(ours)
            processes.append(process)
        for end in track(ends, "loading instances"):
            _answer(end)
        yield ends, position
    finally:
        for end in ends:
            end.close()  # which ends the process behind it
        for process in processes:
            process.terminate()
            process.join()


def _ask(ends: list[Connection], what: str) -> list[Any]:
    for end in ends:
        end.send(what)
    return [_answer(end) for end in ends]


def _answer(end: Connection) -> Any:
    try:
        answer = end.recv()
    except EOFError as error:
        raise WorkbenchError(
            "an instance was ended from outside, perhaps for lack of memory; run fewer."
        ) from error
    if isinstance(answer, str):
        raise WorkbenchError(f"an instance failed: {answer}")
    return answer


def _instance(load: Load, packed: bytes, cores: list[int], position: Any, end: Connection) -> None:
    """The life of one process: load, warm up, then answer until nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        torch.set_num_threads(len(cores))
        batches: list[dict[str, Tensor]] = torch.load(io.BytesIO(packed))
        with torch.inference_mode():
            model = load().eval()
            for batch in {_shapes(batch): batch for batch in batches}.values():
                model(**batch)
            end.send(None)
            answers = {"run": lambda: _run(model, batches, position), "bytes": proportional}
            while True:
                end.send(answers[end.recv()]())
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, whoever asked must hear of it
        end.send(f"{type(error).__name__}: {error}")


def _shapes(batch: Batch) -> tuple[Any, ...]:
    return tuple((name, tuple(value.shape)) for name, value in batch.items())


def _run(
    model: nn.Module, batches: list[dict[str, Tensor]], position: Any
) -> tuple[float, float, list[float]]:
    """When this instance began and ended, and the seconds of each batch that it took."""
    begun = time.monotonic()
    taken: list[float] = []
    while True:
        with position.get_lock():
            index, position.value = position.value, position.value + 1
        if index >= len(batches):
            return begun, time.monotonic(), taken
        start = time.perf_counter()
        model(**batches[index])
        taken.append(time.perf_counter() - start)
