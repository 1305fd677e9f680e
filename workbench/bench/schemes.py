"""The schemes that a benchmark sets side by side, and the names of their rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from workbench.errors import WorkbenchError

Activations = Literal["float", "token", "tensor"]
BITS = (8, 4, 2)


@dataclass(frozen=True)
class Scheme:
    """How one linear layer computes: bits of a weight, inputs to one scale, what inputs become.

    `group_size` None means one scale for each output channel (or none, in float). `activations` are
    "float", int8 per "token" as they come, or int8 per "tensor" with a calibrated scale.
    """

    op: str
    bits: int
    group_size: int | None = None
    activations: Activations = "float"

    @property
    def is_float(self) -> bool:
        """Whether nothing is quantized."""
        return self.op == "float"


FP32 = Scheme("float", 32)
BF16 = Scheme("float", 16)


def schemes(bits: Iterable[int] = BITS, group_size: int = 128) -> list[Scheme]:
    """Every scheme with weights of `bits`: w8a8, w8a8-static, w8, and w4, w4a8, w2, w2a8 in groups.

    Raises WorkbenchError for other bits.
    """
    made = [FP32, BF16]
    for count in bits:
        if count not in BITS:
            raise WorkbenchError(f"bits {count} is no scheme here; allowed: {_told(BITS)}")
        group = None if count == 8 else group_size
        made += [Scheme(f"w{count}", count, group), Scheme(f"w{count}a8", count, group, "token")]
        if count == 8:
            made.append(Scheme("w8a8-static", count, group, "tensor"))
    return made


def _told(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
