"""Weights packed for the native kernels: the one copy in memory, in another order than on disk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from workbench.ops import native
from workbench.ops.mapped import release
from workbench.ops.packing import pack
from workbench.ops.weights import by_panel, by_row, integers

NUMBERS = ("weight_scale", "weight_zero_point")  # which lie in panels where the weight does

_as_they_lie: ContextVar[bool] = ContextVar("panels_as_they_lie", default=False)


@contextmanager
def panels_as_they_lie() -> Iterator[None]:
    """Let `state_dict` show panels instead of unpacking them all: `unpacked` does it one by one."""
    token = _as_they_lie.set(True)
    try:
        yield
    finally:
        _as_they_lie.reset(token)


class QPanels(nn.Module):
    """The half of a quantized module that holds the matrix `weight` in panels, where kernels do.

    The buffer `panels` then stands in for `weight` or `weight_packed`, which is None; `state_dict`
    and loading see the latter, bit for bit, and so with scales and zero points [out, groups].
    """

    panels: Tensor | None
    shapes: dict[str, torch.Size]
    _bits: int = 8  # of the weight; `prepare` sets it

    @property
    def weight_buffer(self) -> str:
        """The buffer that integers of `weight` have outside of panels."""
        return "weight_packed" if "weight_packed" in self._buffers else "weight"

    def hold_panels(self, wanted: bool, bits: int) -> None:
        """Pack the integers, or unpack them, if they lie the other way."""
        rows, columns = self.shapes["weight"]
        data = self._buffers[self.weight_buffer]
        if wanted and data is not None:
            self.panels = native.pack(integers(data, bits, rows, columns), bits)
            release(data)  # or a file stays in memory for as long as one of its tensors is used
            self._buffers[self.weight_buffer] = None
            for name, numbers in self._numbers_held().items():
                self._buffers[name] = by_panel(numbers)
        elif not wanted and data is None:
            self._buffers |= self._unpacked(bits)
            self.panels = None

    def _numbers_held(self) -> dict[str, Tensor]:
        held = ((name, self._buffers.get(name)) for name in NUMBERS)
        return {name: numbers for name, numbers in held if numbers is not None}

    def _unpacked(self, bits: int) -> dict[str, Tensor]:
        """What lies in panels, as it lies outside of them, by the name of its buffer."""
        assert self.panels is not None
        rows, columns = self.shapes["weight"]
        values = native.unpack(self.panels, bits, rows, columns)
        data = pack(values, bits) if self.weight_buffer == "weight_packed" else values
        numbers = {name: by_row(held, rows) for name, held in self._numbers_held().items()}
        return {self.weight_buffer: data, **numbers}

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        panels = self._buffers.get("panels")
        if panels is None:
            return
        as_they_lie = {self.weight_buffer: panels}
        shown = as_they_lie if _as_they_lie.get() else self._unpacked(self._bits)
        destination.update({prefix + name: tensor for name, tensor in shown.items()})

    def unpacked(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of this module, by their own names, with integers in place of panels."""
        data = own.get(self.weight_buffer)
        is_panels = data is not None and data.dtype == torch.uint8
        return own | self._unpacked(self._bits) if is_panels else own

    def _load_from_state_dict(self, *arguments: Any) -> None:
        held = self._buffers.get("panels") is not None
        if held:
            self.hold_panels(False, self._bits)
        super()._load_from_state_dict(*arguments)
        if held:
            self.prepare()

    def take_panels(self, holder: "QPanels") -> None:
        """Use the integers that `holder` has in panels, which are the same."""
        for name in ("panels", *NUMBERS):
            if name in holder._buffers:
                self._buffers[name] = holder._buffers[name]
        self._buffers[self.weight_buffer] = None
        self.prepare()

    def stored_weight(self) -> tuple[Tensor, Tensor, Tensor | None, int, int, int]:
        """The frozen weight as ops take it: data, scale, zero point, bits, rows and columns."""
        buffers = self._buffers
        data = buffers["panels"]
        if data is None:
            data = buffers[self.weight_buffer]
        scale, point = buffers["weight_scale"], buffers.get("weight_zero_point")
        return data, scale, point, self._bits, *self.shapes["weight"]  # type: ignore[return-value]

    def prepare(self) -> None:
        """Derive what the frozen forward needs from the buffers."""
        raise NotImplementedError


def share_panels(tied: Sequence[QPanels]) -> None:
    """Where one of several modules with the same integers holds them in panels, let all do so."""
    holder = next((m for m in tied if m._buffers.get("panels") is not None), None)
    for other in tied:
        if holder is not None and other is not holder:
            other.take_panels(holder)
