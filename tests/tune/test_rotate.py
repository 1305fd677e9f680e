"""Hadamard matrices, and the rotation that no output notices."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import ZOO

import workbench as wb
from workbench.tune import rotate
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
