"""Keep freed memory, so that each step need not fault its pages in again."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workbench.train.accelerators.base import Accelerator

# Of glibc's malloc.h. Without mapping, what is freed stays on the heap and is used again.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
ON = {MMAP_MAX: 0, TRIM_THRESHOLD: -1}
# Where glibc's own adjustment ends in a process that frees large blocks, as torch does.
OFF = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20}


class Heap(Accelerator):
    """glibc told not to give large blocks back to the system after each use."""

    name = "heap"
    brings = "freed memory used again instead of mapped anew"
    changes = "nothing"

    def obstacle(self, trainer: Any) -> str | None:
        """Training is not on a processor, or the allocator is not glibc's."""
        if trainer.args.device.type != "cpu":
            return f"memory of {trainer.args.device.type} is kept already"
        if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"):
            return "this allocator has no such setting"
        return None

    @contextmanager
    def on(self, trainer: Any) -> Iterator[None]:  # noqa: ARG002
        """Keep what is freed from now on."""
        _set(ON)
        try:
            yield
        finally:
            _set(OFF)


def _set(options: dict[int, int]) -> None:
    libc = ctypes.CDLL(None)
    for option, value in options.items():
        libc.mallopt(option, value)
