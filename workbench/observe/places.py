"""Where in the data each token of a batch stands: its position, and the tokens around it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.observe.hashes import mixed

BEFORE, AFTER = 12, 4
WINDOW = BEFORE + 1 + AFTER
NOBODY = -1


@dataclass(frozen=True)
class Places:
    """The places of the n tokens of a batch that are no padding.

    `positions` int32 [n] count from the start of each sequence, -1 where sequences are not told
    apart; `context` int32 [n, 17] holds the token ids from 12 before to 4 after the token, -1 past
    the ends or where the batch has no `input_ids`; `hashes` int64 [n] tell contexts apart. `shape`
    is that of a tensor with one row for each token, padding included, which `kept` [rows] marks as
    False.
    """

    shape: torch.Size | None
    kept: Tensor | None
    positions: Tensor
    context: Tensor
    hashes: Tensor

    @classmethod
    def of(cls, batch: Mapping[str, Any]) -> Self | None:
        """Read them off `input_ids` and `attention_mask`; None where the batch has neither."""
        ids, mask = (_matrix(batch.get(name)) for name in ("input_ids", "attention_mask"))
        told = ids if ids is not None else mask
        if told is None:
            return None
        real = torch.ones_like(told) if mask is None or mask.shape != told.shape else mask
        real = real.bool()
        positions = real.int().cumsum(1, dtype=torch.int32) - 1
        context = torch.full((*told.shape, WINDOW), NOBODY, dtype=torch.int32)
        if ids is not None:
            padded = F.pad(ids.int().masked_fill(~real, NOBODY), (BEFORE, AFTER), value=NOBODY)
            context = padded.unfold(1, WINDOW, 1)
        kept = None if bool(real.all()) else real.flatten()
        pick = slice(None) if kept is None else kept
        places = (positions.flatten()[pick], context.flatten(0, 1)[pick])
        return cls(told.shape, kept, *places, mixed(torch.cat([places[0][:, None], places[1]], 1)))

    @classmethod
    def unknown(cls, count: int) -> Self:
        """The places of `count` tokens of which nothing is known."""
        nowhere = torch.full((count, 1 + WINDOW), NOBODY, dtype=torch.int32)
        hashes = torch.zeros(count, dtype=torch.int64)
        return cls(None, None, nowhere[:, 0], nowhere[:, 1:], hashes)


def _matrix(value: Any) -> Tensor | None:
    return value.cpu() if isinstance(value, Tensor) and value.dim() == 2 else None
