"""Hadamard matrices, and the rotation that no output notices."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import ZOO

import workbench as wb
from workbench.graph.calls import run
from workbench.tune import rotate, rotate_values
from workbench.tune.hadamard import hadamard, rotation_matrix


@pytest.mark.parametrize("size", [1, 2, 4, 12, 20, 24, 28, 36, 40, 64, 384, 768, 896, 1152, 4096])
def test_hadamard_matrices_are(size):
    found = hadamard(size)
    assert set(found.unique().tolist()) <= {1.0, -1.0}
    assert torch.equal(found @ found.T, size * torch.eye(size, dtype=torch.float64))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(0, 5))
def test_every_width_has_an_orthogonal_matrix(size, seed):
    found = rotation_matrix(size, seed)
    torch.testing.assert_close(found @ found.T, torch.eye(size, dtype=torch.float64))
    assert torch.equal(found, rotation_matrix(size, seed))


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen3"])
def test_the_float_function_is_preserved_and_the_gains_are_one(name):
    case = ZOO[name]
    model, batch = case.model(), case.batches(1)[0]
    with torch.no_grad():
        before = model(**batch).logits
        found = rotate(model, batch)
        after = model(**batch).logits
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    assert found.deviation < 1e-4
    assert len(found.norms) == 5
    for norm in found.norms:
        gain = model.get_submodule(norm).weight
        torch.testing.assert_close(gain, torch.ones_like(gain))


def test_an_outlier_channel_is_spread(tiny_llama):
    """The stream of a model with one large embedding channel has none after rotation."""
    with torch.no_grad():
        tiny_llama.model.embed_tokens.weight[:, 3] *= 30
    ids = torch.arange(40).view(2, 20)
    rotated = copy.deepcopy(tiny_llama)
    rotate(rotated, {"input_ids": ids})

    def ratio(model):
        absmax = model.model.embed_tokens(ids).detach().abs().amax((0, 1))
        return float(absmax.max() / absmax.median())

    assert ratio(tiny_llama) > 15
    assert ratio(rotated) < 4
    assert rotated.config.tie_word_embeddings is False
    assert tiny_llama.config.tie_word_embeddings is True


def test_a_rotated_model_survives_saving(tiny_llama, tmp_path):
    model, ids = copy.deepcopy(tiny_llama), torch.arange(40).view(2, 20)
    rotate(model, {"input_ids": ids})
    wb.quantize(model, "int8", exclude="lm_head")
    wb.freeze(model)
    wb.save(model, tmp_path / "out")
    loaded = wb.load(tmp_path / "out").model
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)


@pytest.mark.parametrize("name", ["gemma3", "opt", "bert", "mixtral", "vit"])
def test_what_cannot_be_rotated_is_refused_and_left_alone(name):
    case = ZOO[name]
    model, batch = case.model(), case.batches(1)[0]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    kept = [p.data_ptr() for p in model.parameters()]
    with pytest.raises(wb.WorkbenchError, match="rotating"):
        rotate(model, batch)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [p.data_ptr() for p in model.parameters()] == kept


# What makes values and what reads them, by the last part of their names, and the width of a head.
VALUES = {
    "llama": "v_proj>o_proj 8",
    "mistral": "v_proj>o_proj 8",
    "gpt2": "c_attn>c_proj 8",
    "gpt_neox": "query_key_value>dense 8",
    "falcon": "query_key_value>dense 8",
    "opt": "v_proj>out_proj 8",
    "mixtral": "v_proj>o_proj 8",
    "bert": "value>dense 8",
    "t5": "v>o 8",
    "whisper": "v_proj>out_proj 8",
    "vit": "v_proj>o_proj 8",
}


@pytest.mark.parametrize("name", ZOO)
def test_rotated_values_preserve_the_function(name):
    """On data that the search did not see; the rotation is there, or nothing was changed."""
    case = ZOO[name]
    model, (batch, unseen) = case.model(), case.batches(2, seed=7)
    with torch.no_grad():
        torch.manual_seed(0)
        before = run(model, unseen)
        weights = {n: p.detach().clone() for n, p in model.named_parameters()}
        found = rotate_values(model, batch)
        torch.manual_seed(0)
        after = run(model, unseen)
    for new, old in zip(after, before, strict=True):
        torch.testing.assert_close(new, old, rtol=1e-3, atol=1e-4 * float(old.abs().max()))
    told = {f"{leaf(one.maker)}>{leaf(one.readers[0])} {one.head}" for one in found}
    assert VALUES.get(name, "") in {*told, ""}
    touched = {n for n, p in model.named_parameters() if not torch.equal(p, weights[n])}
    changed = {n.rpartition(".")[0] for n in touched}
    assert changed == {n for one in found for n in (one.maker, *one.readers)}


def leaf(name):
    return name.rpartition(".")[2]


def test_an_outlier_among_values_is_spread_over_its_head(tiny_llama):
    layer = tiny_llama.model.layers[0].self_attn
    with torch.no_grad():
        layer.v_proj.weight[5] *= 40
        layer.o_proj.weight[:, 5::16] /= 40  # heads of 8; two of four share the values of one
    ids = torch.arange(40).view(2, 20)
    seen = {}
    layer.o_proj.register_forward_pre_hook(lambda _, args: seen.update(x=args[0].abs()))
    for _ in range(2):
        tiny_llama(ids)
        absmax = seen["x"].amax((0, 1))[:8]
        seen.setdefault("before", float(absmax.max() / absmax.median()))
        rotate_values(tiny_llama, {"input_ids": ids})
    assert seen["before"] > 20
    assert float(absmax.max() / absmax.median()) < 4


def test_two_linears_in_a_row_are_one_head_and_a_gate_is_none():
    torch.manual_seed(0)

    class Gated(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.up, self.down, self.out = (torch.nn.Linear(12, 12) for _ in range(4))

        def forward(self, x):
            return self.out(self.down(self.gate(x).sigmoid() * self.up(x)))

    (found,) = rotate_values(Gated(), {"x": torch.randn(5, 7, 12)})
    assert (found.maker, found.readers, found.head) == ("down", ("out",), 12)
