"""What the C library keeps after work for the next allocation, given back to the system."""

import ctypes
import sys
from functools import cache
from typing import Any


def trim() -> None:
    """Give freed memory back; with another allocator than glibc's nothing happens.

    Calibrating leaves some 200 MB of it behind, which each of many kernels would hold.
    """
    if (malloc_trim := _malloc_trim()) is not None:
        malloc_trim(0)


@cache
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
