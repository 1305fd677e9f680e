"""Samples of tokens that do not depend on how the data was split over passes."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from workbench.observe.hashes import priorities
from workbench.observe.places import Places


@dataclass(frozen=True)
class Tokens:
    """T tokens of one tensor, and where in the data they stood.

    `rows` is float32 [T, K]; `keys` int64 [T] ranks tokens at random, alike wherever they are met;
    `positions` int32 [T] and `context` int32 [T, 17] are those of `Places`.
    """

    rows: Tensor
    keys: Tensor
    positions: Tensor
    context: Tensor

    @classmethod
    def of(cls, rows: Tensor, places: Places) -> Self:
        """All tokens of `rows` [n, K] float32, which stood at `places`."""
        hashes, *where = (
            array.to(rows.device) for array in (places.hashes, places.positions, places.context)
        )
        return cls(rows, priorities(rows) ^ hashes, *where)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> "Tokens":
        return Tokens(*(array[index] for array in self.arrays().values()))

    def __add__(self, other: "Tokens") -> "Tokens":
        pairs = zip(self.arrays().values(), other.arrays().values(), strict=True)
        return Tokens(*(torch.cat(pair) for pair in pairs))

    def arrays(self) -> dict[str, Tensor]:
        """The arrays by name, as a file holds them."""
        return vars(self)

    def smallest(self, size: int) -> "Tokens":
        """The `size` tokens of smallest key, in order of key; the same for any order of arrival."""
        return self[self.keys.sort(stable=True).indices[:size]]


@dataclass(frozen=True)
class Peaks:
    """The tokens that made the loudest channels as loud as they are, the loudest channel first.

    `tokens[i]` holds the largest magnitude of channel `channels[i]` (int64 [P]).
    """

    tokens: Tokens
    channels: Tensor

    @classmethod
    def of(cls, tokens: Tokens, absmax: Tensor, size: int) -> Self:
        """The peaks of the `size` loudest channels, among all `tokens` and their `absmax` [K]."""
        loudest = absmax.sort(descending=True, stable=True).indices[:size]
        found = tokens.rows.index_select(1, loudest).abs() == absmax[loudest]
        token, place = found.nonzero(as_tuple=True)  # more than one a channel only where they tie
        keys = tokens.keys[token]
        last = torch.full_like(loudest, torch.iinfo(torch.int64).max)
        least = last.scatter_reduce(0, place, keys, "amin")
        mine = keys == least[place]
        first = torch.zeros_like(loudest).index_put((place[mine],), token[mine])
        return cls(tokens[first], loudest)

    def __len__(self) -> int:
        return len(self.channels)

    @property
    def values(self) -> Tensor:
        """The magnitude of each peak, float32 [P]."""
        return self.tokens.rows.gather(1, self.channels[:, None])[:, 0].abs()

    def merged(self, other: "Peaks", size: int) -> "Peaks":
        """The peaks of the `size` loudest channels of both, exact and in any order.

        A channel among the loudest of all is among the loudest where its peak was met.
        """
        both = Peaks(self.tokens + other.tokens, torch.cat([self.channels, other.channels]))
        order = both.tokens.keys.sort(stable=True).indices
        order = order[both.channels[order].sort(stable=True).indices]
        order = order[both.values[order].sort(stable=True, descending=True).indices]
        first: dict[int, int] = {}
        for index in order.tolist():
            first.setdefault(int(both.channels[index]), index)
        best = torch.tensor(list(first.values())[:size], dtype=torch.int64)
        return Peaks(both.tokens[best], both.channels[best])
