"""Attention between native layers of eager models: torch's result, whoever asks and however."""

import copy
from contextlib import contextmanager

import pytest
import torch
from tiny_models import bert as tiny_bert
from transformers import BertModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from workbench.models.hf import attention
from workbench.ops import native
from workbench.quant import Calibration, QuantArgs, dequantize, freeze, quantize

pytestmark = pytest.mark.skipif(
    native.status().problem is not None, reason="no native kernels here"
)


@pytest.fixture
def bert() -> BertModel:
    return tiny_bert(32, vocab_size=50, num_hidden_layers=2)


def frozen(model: torch.nn.Module, op: str | None = None) -> torch.nn.Module:
    quantize(model, activations=QuantArgs(granularity="token", dynamic=True))
    freeze(model, op=op)
    return model


def batch(padded: bool = True) -> dict[str, torch.Tensor]:
    ids = torch.randint(50, (2, 19), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 11:] = 1 - padded
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def calls(monkeypatch):
    """The calls of the native function."""
    made = []

    def counted(*given):
        made.append(given)
        return function(*given)

    function = attention.attention_native
    monkeypatch.setattr(attention, "attention_native", counted)
    return made


@contextmanager
def torch_attention():
    ours = ALL_ATTENTION_FUNCTIONS["sdpa"]
    ALL_ATTENTION_FUNCTIONS["sdpa"] = ours.instead_of
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = ours


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True])
def test_an_encoder(bert, calls, padded):
    model, inputs = frozen(bert), batch(padded)
    found = model(**inputs).last_hidden_state
    assert len(calls) == 2
    with torch_attention():
        wanted = model(**inputs).last_hidden_state
    assert len(calls) == 2
    # A rounding before an input is quantized may become a step of 1/127 of it.
    seen = inputs["attention_mask"].bool()
    assert (found - wanted)[seen].abs().max() < 0.02 * wanted.abs().max()
    assert torch.nn.functional.cosine_similarity(found[seen], wanted[seen], -1).min() > 0.9999


@torch.no_grad()
def test_a_decoder_with_grouped_heads_and_a_cache(tiny_llama, calls):
    model = frozen(tiny_llama.eval())
    ids = batch()["input_ids"]
    found = model.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=0)
    layers = model.config.num_hidden_layers
    assert len(calls) == 5 * layers
    assert [one[0].shape[2] for one in calls[::layers]] == [19, 1, 1, 1, 1]
    whole = model(found).logits
    assert torch.equal(whole[:, 18:-1].argmax(-1), found[:, 19:])
    with torch_attention():
        assert torch.equal(
            model.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=0), found
        )


@torch.no_grad()
def test_copies_attend_natively_and_floats_do_not(bert, calls):
    model = copy.deepcopy(bert)
    bert(**batch())
    with Calibration(model):
        quantize(model)
        model(**batch())
    assert not calls
    freeze(model)
    found = copy.deepcopy(model)(**batch()).last_hidden_state
    assert len(calls) == 2
    assert torch.equal(model(**batch()).last_hidden_state, found)
    dequantize(model)
    model(**batch())
    assert len(calls) == 4


@torch.no_grad()
def test_layers_pinned_to_torch_keep_its_attention(bert, calls):
    frozen(bert, op="a8_linear_reference")(**batch())
    assert not calls


def test_whoever_is_watched_gets_what_torch_gives(bert, calls):
    model = frozen(bert)
    embeddings = model.get_input_embeddings().weight
    model(**batch()).last_hidden_state.sum().backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0
    with torch.no_grad(), torch.profiler.profile() as profile:
        model(**batch())
    assert "aten::scaled_dot_product_attention" in {one.key for one in profile.key_averages()}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(**batch())
    assert not calls


@torch.no_grad()
def test_weights_of_attention_can_still_be_asked_for(bert, calls):
    model = frozen(bert)
    model.set_attn_implementation("eager")
    shown = model(**batch(), output_attentions=True).attentions
    assert [one.shape for one in shown] == [(2, 4, 19, 19)] * 2
    assert not calls
