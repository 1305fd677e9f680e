"""The quantized number types, by the names quanto gave them."""

from dataclasses import dataclass

import torch

from workbench.quant.dtypes import dtype_name


@dataclass(frozen=True)
class qtype:  # noqa: N801 - quanto's name, kept so that its users' code reads the same
    """A number type with values in [qmin, qmax]; integers below 8 bits are stored packed."""

    name: str
    dtype: str
    bits: int
    qmin: float
    qmax: float
    storage: torch.dtype

    @property
    def is_float(self) -> bool:
        """Whether values are floating-point numbers rather than integers."""
        return self.storage.is_floating_point

    @property
    def packed(self) -> bool:
        """Whether several values share one int32 word in memory and on disk."""
        return self.bits < 8

    def __repr__(self) -> str:
        return self.name


def _integer(bits: int) -> qtype:
    half = 2 ** (bits - 1)
    return qtype(f"qint{bits}", f"int{bits}", bits, -half, half - 1, torch.int8)


def _float8(dtype: torch.dtype) -> qtype:
    largest = torch.finfo(dtype).max
    name = dtype_name(dtype)
    return qtype(f"q{name}", name, 8, -largest, largest, dtype)


qint2, qint3, qint4, qint6, qint8 = map(_integer, (2, 3, 4, 6, 8))
qfloat8_e4m3fn = _float8(torch.float8_e4m3fn)
qfloat8_e4m3fnuz = _float8(torch.float8_e4m3fnuz)
qfloat8_e5m2 = _float8(torch.float8_e5m2)
qfloat8 = qfloat8_e4m3fn

qtypes: dict[str, qtype] = {
    t.dtype: t
    for t in (
        *(qint2, qint3, qint4, qint6, qint8),
        *(qfloat8_e4m3fn, qfloat8_e4m3fnuz, qfloat8_e5m2),
    )
}
aliases = {"float8": qfloat8.dtype}
