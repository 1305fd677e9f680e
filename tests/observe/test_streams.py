"""The residual stream, keys and values and convolutions, against the model's own outputs."""

import pytest
import torch
from torch import nn

from workbench.graph.blocks import block_chains
from workbench.observe import Statistics, observe


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(1, 97, (2, 11), generator=g)} for _ in range(3)]


def joined(model, data, pick):
    with torch.no_grad():
        outs = [model(**batch, use_cache=True, output_hidden_states=True) for batch in data]
    return torch.cat([pick(out).flatten(0, 1) for out in outs])


def test_the_residual_stream_is_what_passes_between_blocks(tiny_llama, data):
    streams = observe(tiny_llama, data).streams
    residual = [s for s in streams.values() if s.tap.kind == "residual"]
    names = [f"model.layers.{i}.residual" for i in (0, 1)]
    assert [s.name for s in residual] == [*names, "model.layers.1.residual.out"]
    for index, stream in enumerate(residual[:2]):  # the model's last hidden state is normed
        seen = joined(tiny_llama, data, lambda out, at=index: out.hidden_states[at])
        assert torch.equal(stream.absmax, seen.abs().amax(0))
        assert stream.count == len(seen)


def test_keys_and_values_are_those_of_the_cache(tiny_llama, data):
    tiny_llama.config.use_cache = False  # whatever it says, a cache is asked for
    streams = observe(tiny_llama, data).streams
    for index in (0, 1):
        for kind in ("keys", "values"):
            stream = streams[f"model.layers.{index}.{kind}"]

            def pick(out, at=index, kind=kind):
                return getattr(out.past_key_values.layers[at], kind).transpose(1, 2).flatten(2)

            seen = joined(tiny_llama, data, pick)
            assert stream.channels == 2 * 8  # heads side by side
            torch.testing.assert_close(stream.absmax, seen.abs().amax(0))


def test_convolutions_have_their_input_channels_and_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3, groups=2))
    images = [{"input": torch.randn(2, 3, 9, 9)} for _ in range(2)]
    streams = observe(Named(model), images).streams
    assert [s.name for s in streams.values()] == ["body.0.input", "body.2.input"]
    pixels = torch.cat([batch["input"] for batch in images])
    first, second = streams.values()
    assert torch.equal(first.absmax, pixels.abs().amax((0, 2, 3)))
    assert first.count == pixels.numel() / 3
    weight = model[2].weight.detach().abs()
    per_group = [weight[:2].amax((0, 2, 3)), weight[2:].amax((0, 2, 3))]
    assert torch.equal(second.weight_absmax, torch.cat(per_group))


class Named(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body, self.head = body, nn.Linear(4, 2)

    def forward(self, input):  # noqa: A002
        return self.head(self.body(input).mean((2, 3)))


def test_blocks_in_stages_are_the_innermost_ones():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 6)

        def forward(self, x):
            return (x + self.linear(x), None)

    class Stage(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([Block(), Block()])

        def forward(self, x):
            for block in self.blocks:
                x, _ = block(x)
            return x

    model = nn.Sequential(Stage(), Stage())
    chains = block_chains(model, {"input": torch.randn(1, 3, 6)})
    assert chains == [("0.blocks.0", "0.blocks.1"), ("1.blocks.0", "1.blocks.1")]


def test_streams_merge_and_are_saved_with_the_rest(tiny_llama, data, tmp_path):
    whole = observe(tiny_llama, data)
    merged = observe(tiny_llama, data[1:]) | observe(tiny_llama, data[:1])
    merged.save(tmp_path / "s.safetensors")
    back = Statistics.load(tmp_path / "s.safetensors")
    assert list(back.streams) == list(whole.streams)
    for name, stream in whole.streams.items():
        assert back.streams[name].tap == stream.tap
        assert torch.equal(back.streams[name].absmax, stream.absmax)
        assert torch.equal(back.streams[name].sample, stream.sample)
        assert torch.equal(back.streams[name].peaks.channels, stream.peaks.channels)
