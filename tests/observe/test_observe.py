"""Statistics against direct computation, and the monoid laws."""

from concurrent.futures import ProcessPoolExecutor
from functools import reduce
from multiprocessing import get_context
from operator import or_

import pytest
import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.observe import Statistics, observe


class Two(nn.Module):
    """Two linears on one input, one on another."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.LayerNorm(12)
        self.a, self.b, self.c = nn.Linear(12, 5), nn.Linear(12, 7), nn.Linear(5, 3)

    def forward(self, x, attention_mask=None):
        normed = self.norm(x)
        return self.c(self.a(normed).relu()) + self.b(normed)[..., :3]


def batches(count, seed=1):
    g = torch.Generator().manual_seed(seed)
    return [{"x": torch.randn(3, 9, 12, generator=g) * 3} for _ in range(count)]


def test_entries_hold_what_direct_computation_gives():
    model, data = Two(), batches(4)
    statistics = observe(model, data)
    assert [entry.linears for entry in statistics] == [("a", "b"), ("c",)]
    seen = torch.cat([model.norm(batch["x"]).detach().flatten(0, 1) for batch in data])
    entry = next(iter(statistics))
    assert entry.count == len(seen)
    assert torch.equal(entry.absmax, seen.abs().amax(0))
    torch.testing.assert_close(entry.mean, seen.double().mean(0))
    torch.testing.assert_close(entry.second_moment, seen.double().square().mean(0))
    columns = torch.maximum(model.a.weight.abs().amax(0), model.b.weight.abs().amax(0))
    assert torch.equal(entry.weight_absmax, columns)
    assert entry.outlier_ratio == pytest.approx((entry.absmax.max() / entry.absmax.median()).item())


class Speaker(Two):
    """The same as a language model, whose logits come last."""

    def get_output_embeddings(self) -> nn.Linear:
        return self.c


def test_logits_that_nobody_reads_are_not_computed():
    plain, model, data = Two(), Speaker(), batches(2)
    computed = []
    model.c.register_forward_hook(lambda _, __, y: computed.append(any(y.stride())))
    found = observe(model, data)
    assert same(found, observe(plain, data))
    assert computed[-len(data) :] == [False, False]  # one number stands for all of them
    assert any(computed), "the search for groups is spared none of them"
    torch.testing.assert_close(model(data[0]["x"]), plain(data[0]["x"]), rtol=0, atol=0)


def same(a: Statistics, b: Statistics) -> bool:
    return all(
        torch.equal(x.absmax, b[x.name].absmax)
        and torch.equal(x.sample, b[x.name].sample)
        and torch.allclose(x.total, b[x.name].total, rtol=1e-12)
        and torch.allclose(x.squares, b[x.name].squares, rtol=1e-12)
        and x.count == b[x.name].count
        for x in a
    )


def test_sums_over_many_tokens_are_as_good_as_float64():
    model, data = Two(), [{"x": torch.randn(5, 2000, 12) * 3 + 1}]
    entry = next(iter(observe(model, data)))
    seen = model.norm(data[0]["x"]).detach().flatten(0, 1).double()
    torch.testing.assert_close(entry.mean, seen.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(entry.second_moment, seen.square().mean(0), rtol=1e-6, atol=0)


def test_shards_merge_to_one_pass_in_any_order():
    model, data = Two(), batches(6)
    whole = observe(model, data, sample_size=20)
    one, two, three = (observe(model, data[i : i + 2], sample_size=20) for i in (0, 2, 4))
    assert same((one | two) | three, whole)
    assert same(three | (two | one), whole)


@pytest.mark.parametrize("sizes", [(20, 7), (7, 20)])
def test_of_two_sample_sizes_the_smaller_holds_in_either_order(sizes):
    """Whoever merges, the tokens kept are those of one pass with the smaller size."""
    model, data = Two(), batches(4)
    one, two = (
        observe(model, data[i : i + 2], sample_size=size)
        for i, size in zip((0, 2), sizes, strict=True)
    )
    whole = observe(model, data, sample_size=7)
    assert same(one | two, whole)
    assert same(two | one, whole)
    assert (one | two)["c"].sample_size == 7


def test_merging_is_associative_for_any_sample_sizes():
    model, data = Two(), batches(3)
    one, two, three = (
        observe(model, [batch], sample_size=size)
        for batch, size in zip(data, (5, 20, 9), strict=True)
    )
    assert same((one | two) | three, one | (two | three))


def test_the_example_is_the_same_however_the_batches_are_shared():
    model, data = Two(), batches(4)
    whole = observe(model, data)
    merged = observe(model, data[2:]) | observe(model, data[:2])
    assert torch.equal(merged.example["x"], whole.example["x"])


def test_workers_in_processes_of_their_own_see_what_one_pass_sees():
    """Statistics and models travel by pickle; workers share nothing."""
    # A class that the workers can import, which they cannot from a test.
    model = nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
    data = [{"input": batch["x"]} for batch in batches(4)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(observe, [model] * 2, [data[:2], data[2:]]))
    assert same(reduce(or_, reversed(parts)), observe(model, data))


def test_weights_that_differ_do_not_merge():
    one, two = Two(), Two()
    two.c.weight.data *= 2
    with pytest.raises(WorkbenchError, match="the weights that read c differ"):
        observe(one, batches(1)) | observe(two, batches(1))


def test_models_that_refuse_a_part_of_a_batch_are_observed_too():
    class Stubborn(Two):
        def forward(self, x):
            if len(x) != 3:
                raise ValueError("three or none")
            return super().forward(x)

    statistics = observe(Stubborn(), batches(1))
    assert statistics.example["x"].shape == (3, 9, 12)


def test_options_that_are_no_tensors_reach_the_model():
    class Option(Two):
        def forward(self, x, twice=False):
            assert twice
            return super().forward(x)

    observe(Option(), [batch | {"twice": True} for batch in batches(2)])


def test_a_dead_channel_is_seen_as_zero():
    model, data = Two(), batches(2)
    model.norm.weight.data[4] = model.norm.bias.data[4] = 0
    entry = next(iter(observe(model, data)))
    assert entry.absmax[4] == 0
    assert entry.mean[4] == 0


def test_the_token_sample_holds_real_tokens_and_no_more_than_asked():
    model, data = Two(), batches(3)
    entry = next(iter(observe(model, data, sample_size=10)))
    seen = torch.cat([model.norm(batch["x"]).detach().flatten(0, 1) for batch in data])
    assert entry.sample.shape == (10, 12)
    assert all((seen == row).all(1).any() for row in entry.sample)


def test_padding_is_left_out():
    model, (batch,) = Two(), batches(1)
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[1, 4:] = 0
    loud = {"x": batch["x"].clone(), "attention_mask": mask}
    entry = next(iter(observe(model, [loud])))
    kept = model.norm(batch["x"]).detach()[mask.bool()]
    assert entry.count == len(kept)
    assert torch.equal(entry.absmax, kept.abs().amax(0))


def test_saved_statistics_come_back(tmp_path):
    statistics = observe(Two(), batches(2))
    statistics.save(tmp_path / "s.safetensors")
    back = Statistics.load(tmp_path / "s.safetensors")
    assert same(statistics, back)
    assert [e.group for e in back] == [e.group for e in statistics]
    assert torch.equal(back.example["x"], statistics.example["x"])


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "s.safetensors"
    observe(Two(), batches(1)).save(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WorkbenchError, match="cannot be read"):
        Statistics.load(path)


def test_no_batches_is_refused():
    with pytest.raises(WorkbenchError, match="no batches"):
        observe(Two(), [])


def test_statistics_of_different_models_do_not_merge():

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.only = nn.Linear(12, 2)

        def forward(self, x):
            return self.only(x)

    with pytest.raises(WorkbenchError, match="different models"):
        observe(Two(), batches(1)) | observe(Named(), batches(1))


def test_observing_leaves_the_model_as_it_was():
    model = Two().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    observe(model, batches(2))
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
