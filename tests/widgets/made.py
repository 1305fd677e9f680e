"""Statistics of a model that does not exist, as large as wanted."""

import torch

from workbench.graph import InputGroup
from workbench.observe import Entry, Statistics
from workbench.observe.places import Places
from workbench.observe.seen import measured

READERS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")


def made_statistics(blocks: int, channels: int, tokens: int = 96) -> Statistics:
    """Four inputs a block; channels 7, 100, 2000 ... stand out more with every block."""
    generator = torch.Generator().manual_seed(0)
    places = Places.of({"input_ids": torch.arange(tokens)[None]})
    entries = {}
    for block in range(blocks):
        for reader in READERS:
            name = f"model.layers.{block}.{reader}"
            x = torch.randn(1, tokens, channels, generator=generator)
            x[..., [c for c in (7, 100, 2000, 3000) if c < channels]] *= 10 + 2 * block
            group = InputGroup(name, (name,), (), (name,), None, False, 0.0, (), False, "made up")
            weight = torch.rand(channels, generator=generator) + 0.01
            fields = measured(x, places, 256)
            entries[name] = Entry(group=group, weight_absmax=weight, **fields)
    return Statistics(entries, {})
