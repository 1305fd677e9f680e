"""The quantized number types, by the names quanto gave them."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class qtype:  # noqa: N801 - quanto's name, kept so that its users' code reads the same
    """A number type: integers in [qmin, qmax] stored as `storage`."""

    name: str
    dtype: str
    bits: int
    qmin: int
    qmax: int
    storage: torch.dtype

    def __repr__(self) -> str:
        return self.name


# Symmetric, so -128 stays unused in weights: the negative of every representable value is one too.
qint8 = qtype("qint8", "int8", 8, -127, 127, torch.int8)

qtypes: dict[str, qtype] = {t.dtype: t for t in (qint8,)}
