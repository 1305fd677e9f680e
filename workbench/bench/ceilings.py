"""What this machine can do at most: products and reads, measured in the run that uses them."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from workbench.bench.caches import caches
from workbench.ops import native, pages
from workbench.ops.threads import torch_threads
from workbench.progress import track

SIDE = 2048  # of the square products
MEMORY = 512 * 2**20  # bytes that no cache holds
LEAST_S = 0.15  # how long a reading repeats
Reading = tuple[str, str, float]  # name, unit, value
Probe = Callable[[int], Iterator[Reading]]


class Ceiling(BaseModel):
    """The best of several measurements of one thing; `value` in `unit`, with `threads`."""

    model_config = ConfigDict(frozen=True)
    name: str
    value: float
    unit: str
    threads: int


def ceilings(threads: tuple[int, ...]) -> list[Ceiling]:
    """Measure every ceiling with each number of threads."""
    found = []
    for count, probe in track([(t, p) for t in threads for p in probes], "ceilings"):
        with torch_threads(count):
            found += [
                Ceiling(name=name, value=value, unit=unit, threads=count)
                for name, unit, value in probe(count)
            ]
    return found


def best(first: list[Ceiling], second: list[Ceiling]) -> list[Ceiling]:
    """The higher of two measurements of each ceiling: noise only lowers them."""
    pairs = zip(first, second, strict=True)
    return [max(pair, key=lambda ceiling: ceiling.value) for pair in pairs]


def products(threads: int) -> Iterator[Reading]:
    """Multiply large square matrices: float32, bfloat16, and int8 with int32 sums."""
    del threads
    operations = 2 * SIDE**3
    a = torch.randn(SIDE, SIDE)
    half, q = a.bfloat16(), torch.randint(-127, 128, (SIDE, SIDE), dtype=torch.int8)
    calls: dict[str, list[Callable[[], Tensor]]] = {
        "fp32_matmul": [partial(torch.mm, a, a)],
        "bf16_matmul": [partial(torch.mm, half, half)],
        "int8_matmul": [partial(torch._int_mm, q, q.t())],
    }
    if torch.backends.mkldnn.is_available():  # MKL holds back on some processors, oneDNN does not
        packed = a.to_mkldnn()
        calls["fp32_matmul"].append(partial(torch._C._nn.mkldnn_linear, packed, packed))
    for name, ways in calls.items():
        yield name, "Gop/s", operations / min(map(_least_seconds, ways)) / 1e9


def reads(threads: int) -> Iterator[Reading]:
    """Sum working sets that fit the second level, fit half of the last level, and fit no cache.

    They lie on large pages, as weights do: no ceiling is lower than what it is for.
    """
    known = caches()
    sizes = {
        "read_l2": threads * known.l2 // 2,
        "read_last_level": known.last // 2,
        "read_memory": max(MEMORY, 4 * known.last),
    }
    for name, size in sizes.items():
        values = pages.empty(size // 8 * 8).view(torch.float32).fill_(1)
        readers = (values.sum, values.view(torch.int64).sum, values.max)
        seconds = min(_least_seconds(reader) for reader in readers)
        yield name, "GB/s", values.nbytes / seconds / 1e9


def _least_seconds(call: Callable[[], object]) -> float:
    """The fastest of at least 3 calls; noise only adds."""
    call()
    least, start, calls = float("inf"), time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - start < LEAST_S:
        before = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - before)
        calls += 1
    return least


def instructions(threads: int) -> Iterator[Reading]:
    """Run the fastest 8-bit multiply-add of the native kernels on registers, on every thread."""
    if native.status().problem is not None:
        return
    with ThreadPoolExecutor(threads) as pool:  # ctypes lets go of the lock
        tries = [sum(pool.map(native.peak, [LEAST_S / 5] * threads)) for _ in range(5)]
    yield "int8_instructions", "Gop/s", 2 * max(tries) / 1e9  # a multiplication and an addition


# Each yields any number of readings.
probes: list[Probe] = [products, instructions, reads]
