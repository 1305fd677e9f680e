"""Tensors of a file that is mapped into memory: letting go of them, and giving them room."""

import ctypes
import mmap
import sys

from torch import Tensor

_LINE = 64  # bytes; where torch puts its own tensors
_PAGEOUT = 21  # MADV_PAGEOUT of Linux 5.4, which Python does not name


def release(tensor: Tensor) -> None:
    """Give back the memory of `tensor`, whose values are not needed any more.

    A checkpoint is mapped into memory whole, and each page that was touched counts as memory in use
    until the last tensor of its file is gone. The values stay what they are: reading them again
    would fetch them from the file. A no-op for other tensors, and where the system has no such
    call.
    """
    size = mmap.PAGESIZE
    start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    start, end = -(-start // size) * size, end // size * size  # whole pages of its own
    is_mapped = tensor.device.type == "cpu" and not tensor.untyped_storage().resizable()
    if sys.platform == "linux" and is_mapped and end > start:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _PAGEOUT)


def aligned(tensor: Tensor) -> Tensor:
    """The float `tensor` at an address as torch would give it, copied if need be.

    In a file it may begin anywhere, and some of torch's sums depend on where it does in the last
    bit. Integers and what is not on the CPU come back as they are.
    """
    is_placed = not tensor.is_floating_point() or tensor.data_ptr() % _LINE == 0
    if tensor.device.type != "cpu" or is_placed:
        return tensor
    made = tensor.clone()
    release(tensor)
    return made
