"""Calls of the native library written down, to be made again, all in one call from Python."""

import ctypes
from collections.abc import Iterator
from struct import Struct
from typing import Any

from workbench.ops import native
from workbench.ops.structs import FUNCTIONS, pointers

_CALL = Struct("q3Pdq")  # struct wb_call
_POINTER = Struct("P")
_ORDER = {name: index for index, name in enumerate(FUNCTIONS)}


class Program:
    """Calls in order; where their structs point can change between runs.

    What is pointed to, the caller keeps alive.
    """

    def __init__(self) -> None:
        self.memory = bytearray()  # the structs of all calls
        self.calls: list[tuple[int, list[int], float, int]] = []

    def add(self, name: str, given: tuple[Any, ...]) -> None:
        """Append a call as `native.recording` has it: structs as bytes, a float, an integer."""
        at = []
        for one in given:
            if isinstance(one, bytes):
                at.append(len(self.memory))
                self.memory += one
        number = next((one for one in given if isinstance(one, float)), 0.0)
        self.calls.append((_ORDER[name], at, number, int(given[-1])))

    def point(self, place: int, pointer: int) -> None:
        """Let what lies at `place` of the structs be `pointer`."""
        _POINTER.pack_into(self.memory, place, pointer)

    def prepare(self) -> None:
        """Make it ready to `run`, and no longer to `add` to."""
        self._held = (ctypes.c_char * len(self.memory)).from_buffer(self.memory)
        base = ctypes.addressof(self._held)
        self._calls = b"".join(
            _CALL.pack(kind, *([base + one for one in at] + [0] * (3 - len(at))), number, count)
            for kind, at, number, count in self.calls
        )

    def run(self) -> None:
        """Make all calls; raises RuntimeError where one fails."""
        failed = native.function("wb_run")(self._calls, len(self.calls))
        if failed:
            raise RuntimeError(
                f"the kernels refuse call {failed} of {len(self.calls)}, or are out of memory"
            )


def pointers_of(name: str, given: tuple[Any, ...]) -> Iterator[tuple[int, int]]:
    """Each pointer of a call that is not null, and where it will lie once added, from 0."""
    start = 0
    structs = iter(FUNCTIONS[name])
    for one in given:
        if isinstance(one, bytes):
            for at in pointers(next(structs), len(one)):
                (pointer,) = _POINTER.unpack_from(one, at)
                if pointer:
                    yield start + at, pointer
            start += len(one)
