"""The stored forms of a quantized weight, read as integers or as floats."""

import torch
from torch import Tensor

from workbench.ops import native
from workbench.ops.packing import unpack

_library = torch.library.Library("workbench", "FRAGMENT")
_library.define("unpack_panels(Tensor panels, int bits, int rows, int columns) -> Tensor")
_library.impl("unpack_panels", native.unpack, "CompositeExplicitAutograd")
torch.library.register_fake(
    "workbench::unpack_panels",
    lambda panels, _bits, rows, columns: panels.new_empty((rows, columns), dtype=torch.int8),
    lib=_library,
)


def integers(data: Tensor, bits: int, rows: int, columns: int) -> Tensor:
    """The stored numbers [rows, columns], int8 or float8, of `data` in any form.

    int8 or float8 as they are, int32 words of `workbench.ops.packing`, or uint8 as packed for the
    native kernels.
    """
    if data.dtype == torch.uint8:
        return torch.ops.workbench.unpack_panels.default(data, bits, rows, columns)
    if data.dtype == torch.int32:
        return unpack(data, bits, columns)
    return data


PANEL = 16  # rows of a weight that the native kernels have side by side


def by_panel(numbers: Tensor) -> Tensor:
    """Scales or zero points [rows, groups] as the native kernels read them: [panels, groups, 16].

    [1], one for all, stays what it is, and so do numbers that are in panels.
    """
    if numbers.dim() != 2:
        return numbers
    padded = torch.nn.functional.pad(numbers, (0, 0, 0, -numbers.shape[0] % PANEL))
    return padded.view(-1, PANEL, numbers.shape[1]).transpose(1, 2).contiguous()


def by_row(numbers: Tensor, rows: int) -> Tensor:
    """Undo `by_panel`; numbers that are not in panels stay what they are."""
    return numbers if numbers.dim() < 3 else numbers.transpose(1, 2).flatten(0, 1)[:rows]


def dequantize(
    data: Tensor, scale: Tensor, zero_point: Tensor | None, bits: int, columns: int
) -> Tensor:
    """The float32 values [..., columns] of `data` [..., columns or words]."""
    if data.dtype == torch.int32:
        data = unpack(data, bits, columns)
    values = data.to(torch.float32)
    if scale.dim() < 2:
        return (values if zero_point is None else values - zero_point) * scale
    blocks = values.unflatten(-1, (scale.shape[-1], -1)) if columns else values.unsqueeze(-1)
    if zero_point is not None:
        blocks = blocks - zero_point.unsqueeze(-1)
    return (blocks * scale.unsqueeze(-1)).reshape(values.shape)
