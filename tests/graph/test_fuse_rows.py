"""Norms, products, attention and rotary embeddings found in what `torch.compile` recorded."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

import workbench as wb
from workbench.graph import fuse
from workbench.ops import native

pytestmark = pytest.mark.skipif(
    native.status().problem is not None, reason="no native kernels here"
)
TOKEN = wb.QuantArgs(dtype="int8", granularity="token", dynamic=True)


@pytest.fixture(scope="module")
def llama() -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=128, vocab_size=100, eos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    wb.quantize(model, weights=wb.qint4)
    wb.freeze(model)
    return model


def compiled(model, *inputs):
    """What the compiled model gives, and how many ops of each kind were made."""
    torch._dynamo.reset()
    counts: dict[str, int] = {}
    call = torch.compile(model, backend=fuse.backend, fullgraph=True)
    with torch.no_grad(), fuse.counting(counts):
        found = call(*inputs)
    return found, {kind: count for kind, count in counts.items() if count}


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_decoding_with_a_static_cache(llama):
    """Of each layer: attention, a rotation, q k v, gate with up, two norms and a product."""
    ids = torch.randint(100, (1, 8), generator=torch.Generator().manual_seed(0))
    caches = [StaticCache(config=llama.config, max_cache_len=16) for _ in range(2)]
    with torch.no_grad():
        for cache in caches:
            llama(ids, past_key_values=cache)
        expected = llama(ids[:, :1], past_key_values=caches[0]).logits

    class Step(nn.Module):
        def forward(self, ids):
            return llama(ids, past_key_values=caches[1]).logits

    found, counts = compiled(Step(), ids[:, :1])
    close(found, expected)
    assert counts == {"attention": 2, "rotary": 2, "layers": 4, "rows": 7}
    for one, other in zip(*(cache.layers for cache in caches), strict=True):
        assert torch.equal(one.cumulative_length, other.cumulative_length)
        close(one.keys, other.keys)


class Residual(nn.Module):
    """A sum that is read again after its norm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.linear = norm, nn.Linear(48, 48)

    def forward(self, x, y):
        total = x + y
        return total + self.linear(self.norm(total))


@pytest.mark.parametrize("norm", [nn.LayerNorm(48), nn.RMSNorm(48, eps=1e-5)], ids=repr)
def test_a_sum_and_its_norm_join_the_layer(norm):
    torch.manual_seed(0)
    model = Residual(norm)
    wb.quantize(model, weights=wb.qint8)
    wb.freeze(model)
    x, y = torch.randn(2, 5, 48), torch.randn(2, 5, 48)
    found, counts = compiled(model, x, y)
    with torch.no_grad():
        close(found, model(x, y))
    assert counts == {"rows": 1}


def test_what_is_written_to_afterwards_is_summed_where_it_was():
    class Writes(Residual):
        def forward(self, x, y):
            total = x + y
            x.add_(1.0)
            return self.linear(self.norm(total))

    model = Writes(nn.LayerNorm(48))
    wb.quantize(model, weights=wb.qint8)
    wb.freeze(model)
    x, y = torch.randn(2, 5, 48), torch.randn(2, 5, 48)
    found, _ = compiled(model, x.clone(), y)
    with torch.no_grad():
        close(found, model(x.clone(), y))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_attention_that_kernels_do_not_know_is_left_to_torch(dtype):
    class Attends(nn.Module):
        def forward(self, q, k, v):
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    q, k, v = (torch.randn(1, 2, 9, 16, dtype=dtype) for _ in range(3))
    found, counts = compiled(Attends(), q, k, v)
    close(found, Attends()(q, k, v))
    assert counts == ({"attention": 1} if dtype == torch.float32 else {})


def test_compile_leaves_modules_as_they_are_and_counts_ops(llama):
    torch._dynamo.reset()
    names, state = [n for n, _ in llama.named_modules()], list(llama.state_dict())
    ids = torch.randint(100, (1, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = llama(ids).logits
        text = llama.generate(ids, max_new_tokens=6, do_sample=False)
    made = wb.compile(llama, {"input_ids": ids})
    assert made.problem is None
    assert made.ops == {"attention": 2, "rotary": 2, "layers": 4, "rows": 7}
    assert "native ops: 2 of attention, 2 of rotary, 4 of layers, 7 of rows" in str(
        wb.coverage(llama)
    )
    assert wb.coverage(copy.deepcopy(llama)).compiled is None
    assert [n for n, _ in llama.named_modules()] == names
    assert list(llama.state_dict()) == state
    with torch.no_grad():
        close(llama(ids).logits, expected)
    counts: dict[str, int] = {}
    with fuse.counting(counts):
        assert torch.equal(llama.generate(ids, max_new_tokens=6, do_sample=False), text)
    assert counts["attention"] >= 2


def test_models_of_one_class_are_compiled_apart(llama):
    other = LlamaForCausalLM(llama.config).eval()
    wb.quantize(other, weights=wb.qint8, activations=TOKEN)
    wb.freeze(other)
    ids = torch.randint(100, (1, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = other(ids).logits
        for model in (llama, other):
            wb.compile(model, {"input_ids": ids})
        found = other(ids).logits
    similar = torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    assert similar > 0.999  # a product in another order moves a few numbers by a step of int8


def test_a_model_that_cannot_be_traced_stays_as_it_was():
    class Branches(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x - 1

    model, x = Branches().eval(), torch.ones(3)
    made = wb.compile(model, {"x": x})
    assert made.problem is not None
    assert "Branches cannot be traced in one piece" in made.problem
    assert wb.coverage(model).compiled is None
    assert torch.equal(model(x), x + 1)
