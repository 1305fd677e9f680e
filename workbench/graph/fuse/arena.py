"""One piece of memory for values that do not live all at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.ops import pages

LINE = 64  # bytes, where blocks begin


@dataclass
class Block:
    """`size` bytes, in use from step `first` to step `last`."""

    size: int
    first: int
    last: int
    start: int = 0  # in the arena

    def meets(self, other: "Block") -> bool:
        """Whether both are in use at once."""
        return self.first <= other.last and other.first <= self.last


class Memory:
    """An arena for one run at a time, as large as any run so far has wanted."""

    def __init__(self) -> None:
        self.arena = torch.empty(0, dtype=torch.uint8)

    def of(self, size: int) -> Tensor:
        """The arena [`size` bytes or more]; grown, it lies elsewhere, and what used it stays."""
        if size > self.arena.numel():
            self.arena = pages.empty(max(size, 2 * self.arena.numel()))
        return self.arena


def lay_out(blocks: list[Block]) -> int:
    """Give each block its `start`, the largest first, as low as it can lie; the bytes of all."""
    laid: list[Block] = []
    for block in sorted(blocks, key=lambda one: -one.size):
        start = 0
        for other in sorted((o for o in laid if o.meets(block)), key=lambda one: one.start):
            if start + block.size <= other.start:
                break
            start = max(start, _aligned(other.start + other.size))
        block.start = start
        laid.append(block)
    return max((one.start + one.size for one in laid), default=0)


def _aligned(size: int) -> int:
    return -(-size // LINE) * LINE


def moved(value: Tensor, arena: Tensor, block: Block) -> Tensor:
    """A tensor like `value`, whose storage was the block, where the block lies in the arena."""
    at = arena.storage_offset() + block.start + value.storage_offset() * value.element_size()
    like = torch.empty(0, dtype=value.dtype)
    return like.set_(
        arena.untyped_storage(), at // value.element_size(), value.shape, value.stride()
    )
