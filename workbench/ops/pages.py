"""Memory on large pages: reading it once through costs few misses of the address cache."""

import mmap

import torch
from torch import Tensor

LARGE = 2**21  # bytes of a page that one entry of the address cache reaches


def empty(size: int) -> Tensor:
    """Uninitialized uint8 [size], on large pages as far as it fills some and the system has any."""
    whole = size // LARGE * LARGE
    if not whole or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(size, dtype=torch.uint8)
    held = mmap.mmap(-1, size + LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = -torch.frombuffer(held, dtype=torch.uint8).data_ptr() % LARGE
    held.madvise(mmap.MADV_HUGEPAGE, start, whole)
    return torch.frombuffer(held, dtype=torch.uint8, count=size, offset=start)


def copied(tensor: Tensor) -> Tensor:
    """A copy of uint8 [size] in memory of its own."""
    return empty(tensor.numel()).copy_(tensor)
