"""Find the widths inside of blocks, heads and feed-forward units, that can be narrowed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workbench.graph.blocks import block_chains
from workbench.graph.calls import calls
from workbench.graph.inputs import tied_modules
from workbench.graph.probe import Prober
from workbench.graph.trace import trace

Part = Literal["heads", "units"]


@dataclass(frozen=True)
class Width:
    """The channels between some linears (`makers`) and the one that reads them, in U units.

    A unit of "heads" is one head, or all that share its keys and values; one of "units" a channel.
    `columns` [U, c] are the reader's input channels of each unit, `rows` [U, r] the output channels
    of each maker. `heads` is how many heads ask (query), for what the modules note of it.
    """

    part: Part
    layer: int
    reader: str
    columns: Tensor
    rows: dict[str, Tensor]
    heads: int

    @property
    def count(self) -> int:
        """Number of units."""
        return len(self.columns)

    def owner(self, channels: int) -> Tensor:
        """The unit of each of the reader's input channels, int64 [K]."""
        units = torch.empty(channels, dtype=torch.int64)
        units[self.columns] = torch.arange(self.count).unsqueeze(1)
        return units


@torch.no_grad()
def inner_widths(model: nn.Module, batch: Mapping[str, Any]) -> list[Width]:
    """Run `model(**batch)` some dozen times; return the widths in order of execution.

    Nothing is known by name. Outputs of linears are disturbed, and which channels of their only
    reader follow says what belongs together: one channel each in a feed-forward layer, a block of
    channels in attention. A small batch will do; the mode should be evaluation.
    """
    found = calls(model, batch)
    linears = {
        name
        for name, call in found.items()
        if isinstance(call.module, nn.Linear) and call.count == 1
    } - tied_modules(model)
    traced = trace(model, batch, (), linears)
    fed = Counter(maker for reading in traced.readings for maker in reading.makers)
    layers = {
        block: index for chain in block_chains(model, batch) for index, block in enumerate(chain)
    }
    pairs: dict[str, list[str]] = {}
    for reading in traced.readings:
        makers = [maker for maker in found if maker in reading.makers]
        inside = {_layer(name, layers) for name in (*reading.readers, *makers)}
        alone = all(fed[maker] == 1 and maker not in traced.leaks for maker in makers)
        if (
            makers
            and alone
            and len(reading.readers) == 1
            and None not in inside
            and len(inside) == 1
        ):
            pairs[reading.readers[0]] = makers
    prober = Prober(model, batch, {reader: [reader] for reader in pairs})
    made = {maker: found[maker].output.shape[-1] for makers in pairs.values() for maker in makers}
    ways = _Ways(prober, made)
    ways.find(pairs)
    return [
        width
        for reader, makers in pairs.items()
        if (width := ways.width(_layer(reader, layers) or 0, reader, makers)) is not None
    ]


def _layer(name: str, layers: Mapping[str, int]) -> int | None:
    """The number of the block that the module is part of."""
    return next((i for block, i in layers.items() if name.startswith(f"{block}.")), None)


class _Ways:
    """How the channels of makers reach their readers: one to one (`rows`), or in `blocks`."""

    def __init__(self, prober: Prober, widths: Mapping[str, int]) -> None:
        self.prober = prober
        self.widths = widths
        self.rows: dict[str, Tensor] = {}  # of each reader's channel the maker's
        self.blocks: dict[str, int] = {}  # number of blocks of both, in order

    def find(self, pairs: Mapping[str, list[str]]) -> None:
        """Try all readers at once, the makers of one after the other."""
        for turn in range(max(map(len, pairs.values()), default=0)):
            chosen = {makers[turn]: r for r, makers in pairs.items() if turn < len(makers)}
            self.rows |= self._decoded(chosen, self.widths)
            self._find_blocks({m: r for m, r in chosen.items() if m not in self.rows})

    def _decoded(self, pairs: Mapping[str, str], counts: Mapping[str, int]) -> dict[str, Tensor]:
        """Which of a maker's `counts` equal parts each channel of its reader follows."""
        numbers = {m: torch.arange(self.widths[m]) * counts[m] // self.widths[m] for m in pairs}
        result = {m: self.prober.inputs[r].new_zeros(1).long() for m, r in pairs.items()}
        for bit in range(max((counts[m] - 1 for m in pairs), default=0).bit_length()):
            one = {m: numbers[m] >> bit & 1 == 1 for m in result}
            left = {m: pairs[m] for m in result}
            with_it = self.prober.reached(left, one)
            without = self.prober.reached(left, {m: ~ones for m, ones in one.items()})
            for maker in left:
                if torch.equal(with_it[maker], ~without[maker]):
                    result[maker] = result[maker] + (with_it[maker].long() << bit)
                else:
                    del result[maker]
        return {m: found for m, found in result.items() if len(found) > 1}

    def _find_blocks(self, pairs: Mapping[str, str]) -> None:
        """The number of blocks, read from what follows the first channel, and then confirmed."""
        first = {m: torch.arange(self.widths[m]) == 0 for m in pairs}
        counts = {}
        for maker, moved in self.prober.reached(pairs, first).items():
            size = int(moved.sum())
            if size and len(moved) % size == 0 and moved[:size].all():
                count = len(moved) // size
                if self.widths[maker] % count == 0:
                    counts[maker] = count
        for maker, blocks in self._decoded({m: pairs[m] for m in counts}, counts).items():
            expected = torch.arange(len(blocks)) * counts[maker] // len(blocks)
            if torch.equal(blocks, expected):
                self.blocks[maker] = counts[maker]

    def width(self, layer: int, reader: str, makers: list[str]) -> Width | None:
        """The units of one reader; None where a maker's way was not found or they overlap."""
        if any(maker not in self.rows and maker not in self.blocks for maker in makers):
            return None
        channels = self.prober.inputs[reader].shape[-1]
        blocks = [self.blocks[maker] for maker in makers if maker in self.blocks]
        count = min(blocks, default=channels)
        if count < 2 or any(more % count for more in blocks):
            return None
        columns = torch.arange(channels).view(count, -1)
        rows = {}
        for maker in makers:
            if maker in self.blocks:
                rows[maker] = torch.arange(self.widths[maker]).view(count, -1)
                continue
            units = [unit.unique() for unit in self.rows[maker].view(count, -1)]
            if len({len(unit) for unit in units}) > 1:
                return None
            rows[maker] = torch.stack(units)
            if rows[maker].unique().numel() < rows[maker].numel():
                return None
        part: Part = "heads" if blocks else "units"
        return Width(part, layer, reader, columns, rows, max(blocks, default=0))
