"""The few tokens and channels that a picture of activations has room for, outliers kept."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.observe.places import BEFORE, NOBODY

if TYPE_CHECKING:
    from workbench.observe import Tokens
    from workbench.observe.seen import Seen

TOKENS, CHANNELS = 64, 128
LOUD = CHANNELS // 4


@dataclass(frozen=True)
class Surface:
    """Magnitudes float32 [tokens, channels], the tokens they are of, and the channels' numbers."""

    values: Tensor
    tokens: "Tokens"
    channels: Tensor


def surface(seen: "Seen") -> Surface:
    """Pick 64 tokens, those at the peaks among them, and 128 channels, the loudest among them."""
    tokens = seen.peaks.tokens + seen.tokens
    first = {key: index for index, key in reversed(list(enumerate(tokens.keys.tolist())))}
    kept = sorted(first.values())[:TOKENS]
    tokens = tokens[torch.tensor(kept, dtype=torch.int64)]
    tokens = tokens[tokens.keys.argsort()]  # at random, so that peaks do not stand in a row
    chosen = _channels(seen.absmax)
    return Surface(tokens.rows[:, chosen].abs(), tokens, chosen)


def _channels(absmax: Tensor) -> Tensor:
    if len(absmax) <= CHANNELS:
        return torch.arange(len(absmax))
    order = absmax.sort(descending=True, stable=True).indices
    loud, rest = order[:LOUD], order[LOUD:].sort().values
    even = torch.linspace(0, len(rest) - 1, CHANNELS - LOUD).round().long()
    return torch.cat([loud, rest[even]]).sort().values


def in_words(tokenizer: Any, tokens: "Tokens") -> list[dict[str, Any]]:
    """Each token as text: `before`, `token`, `after`, and its `position` (None if not known)."""
    told = []
    for position, context in zip(tokens.positions.tolist(), tokens.context.tolist(), strict=True):
        told.append(
            {
                "before": _text(tokenizer, *context[:BEFORE]),
                "token": _text(tokenizer, *context[BEFORE : BEFORE + 1]),
                "after": _text(tokenizer, *context[BEFORE + 1 :]),
                "position": None if position == NOBODY else position,
            }
        )
    return told


@lru_cache(maxsize=4096)  # the tensors of a model were sampled at the same tokens
def _text(tokenizer: Any, *ids: int) -> str:
    known = [number for number in ids if number != NOBODY]
    return str(tokenizer.decode(known)) if known and tokenizer is not None else ""
