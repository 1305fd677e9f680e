"""Memory that was freed and that the allocator still keeps."""

import ctypes
import sys


def trim() -> None:
    """Give the system back what lies free on the heap; a no-op off Linux.

    glibc keeps one heap for each of several threads. A model that transformers loaded, with threads
    of its own, lies on theirs: what is freed there, the thread that freezes it would not use again.
    Takes less than a millisecond.
    """
    if sys.platform == "linux":
        give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
        if give_back is not None:
            give_back(0)
