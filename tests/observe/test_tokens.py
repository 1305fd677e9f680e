"""Where sampled tokens stood, which tokens made the peaks, and the laws of merging them."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn

from workbench.errors import WorkbenchError
from workbench.observe import Statistics, observe
from workbench.observe.places import AFTER, BEFORE, Places
from workbench.observe.sample import Peaks, Tokens


class Embedded(nn.Module):
    """A linear that reads embeddings: rows that tell which token they were."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.linear = nn.Embedding(50, 20), nn.Linear(20, 3)

    def forward(self, input_ids, attention_mask=None):
        return self.linear(self.embed(input_ids))


def batches(count=3):
    g = torch.Generator().manual_seed(2)
    made = []
    for _ in range(count):
        mask = torch.ones(4, 30, dtype=torch.long)
        mask[1, 25:] = mask[2, :7] = 0  # padded on the right, and on the left
        ids = torch.randint(0, 50, (4, 30), generator=g)
        made.append({"input_ids": ids, "attention_mask": mask})
    return made


def sequences(data):
    return [
        ids[mask.bool()].tolist()
        for batch in data
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


def around(sequence, at):
    padded = [-1] * BEFORE + sequence + [-1] * AFTER
    return padded[at : at + BEFORE + 1 + AFTER]


def test_each_kept_token_says_where_it_stood():
    model, data = Embedded(), batches()
    entry = observe(model, data)["linear"]
    told = {
        (at, *around(sequence, at)) for sequence in sequences(data) for at in range(len(sequence))
    }
    for kept in (entry.tokens, entry.peaks.tokens):
        for row, position, context in zip(kept.rows, kept.positions, kept.context, strict=True):
            assert (int(position), *context.tolist()) in told
            assert torch.equal(row, model.embed.weight[int(context[BEFORE])])


def test_equal_rows_at_different_places_are_different_tokens():
    """Every token of a kind has one embedding; the sample must not be filled by a few kinds."""
    entry = observe(Embedded(), batches(8), sample_size=40)["linear"]
    assert len({tuple(context.tolist()) for context in entry.tokens.context}) == 40
    assert len(set(entry.tokens.context[:, BEFORE].tolist())) > 20


def test_peaks_are_the_loudest_channels_and_their_tokens():
    model, data = Embedded(), batches()
    entry = observe(model, data)["linear"]
    order = sorted(range(20), key=lambda c: (-entry.absmax[c].item(), c))
    assert entry.peaks.channels.tolist() == order[:8]
    assert torch.equal(entry.peaks.values, entry.absmax[order[:8]])


def test_batches_without_ids_have_unknown_places():
    statistics = observe(nn.Sequential(nn.Linear(4, 2)), [{"input": torch.randn(5, 4)}])
    entry = statistics["0"]
    assert entry.tokens.positions.eq(-1).all()
    assert entry.tokens.context.eq(-1).all()


@settings(max_examples=60, deadline=None)
@given(
    some.lists(some.lists(some.integers(-3, 3), min_size=5, max_size=5), min_size=3, max_size=24),
    some.integers(1, 5),
    some.data(),
)
def test_peaks_of_parts_merge_to_the_peaks_of_all(rows, size, draw):
    """Associative, commutative and exact, also where values tie."""
    table = torch.tensor(rows, dtype=torch.float32)
    ids = torch.arange(len(rows))[None]
    tokens = Tokens.of(table, Places.of({"input_ids": ids}))
    cuts = sorted(draw.draw(some.sets(some.integers(1, len(rows) - 1), min_size=2, max_size=2)))

    def peaks(part):
        return Peaks.of(tokens[torch.arange(len(rows))[part]], table[part].abs().amax(0), size)

    a, b, c = (peaks(slice(*ends)) for ends in pairwise([0, *cuts, len(rows)]))
    whole = peaks(slice(None))
    for merged in (a.merged(b, size).merged(c, size), c.merged(b.merged(a, size), size)):
        assert merged.channels.tolist() == whole.channels.tolist()
        assert torch.equal(merged.values, whole.values)
        assert torch.equal(merged.tokens.keys, whole.tokens.keys)
        assert torch.equal(merged.tokens.context, whole.tokens.context)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("workbench-statistics-2", "format 2.*reads format 3.*observe the model again"),
        ("workbench-statistics-9", "format 9.*install a newer"),
        ("something", "holds no statistics"),
        ("", "holds no statistics"),
    ],
)
def test_a_file_of_another_version_is_refused_in_words(tmp_path, written, said):
    from safetensors.torch import save_file

    path = tmp_path / "s.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"format": written})
    with pytest.raises(WorkbenchError, match=said):
        Statistics.load(path)
