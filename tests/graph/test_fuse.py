"""The compile backend: fewer ops, the same numbers."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

import workbench as wb
from workbench.graph import fuse
from workbench.ops import native

pytestmark = pytest.mark.skipif(
    native.status().problem is not None, reason="no native kernels here"
)
TOKEN = wb.QuantArgs(dtype="int8", granularity="token", dynamic=True)
SCHEMES = {"w8a8": ("int8", TOKEN), "w4": ("int4", None), "w4a8": ("int4", TOKEN)}
OPTIONS = {"inner": "eager"}


def encoder() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        vocab_size=100,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False).eval()


def decoder() -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=128, vocab_size=100,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def frozen(model: nn.Module, scheme: str) -> nn.Module:
    wb.quantize(model, *SCHEMES[scheme])
    wb.freeze(model)
    return model


@pytest.fixture
def joined(monkeypatch):
    """How many ops were made each time a graph was compiled."""
    torch._dynamo.reset()
    made = []
    join = fuse.join_layers
    monkeypatch.setattr(fuse, "join_layers", lambda graph: made.append(join(graph)))
    return made


def test_torch_finds_the_backend_by_name():
    assert "workbench" in torch._dynamo.list_backends()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("make", "count"),
    # Of each layer: q, k, v and the feed-forward layer with its GELU; or q, k, v and gate with up.
    [(encoder, 4), (decoder, 4)],
)
def test_layers_of_one_input_become_one_op(make, count, scheme, joined):
    model, ids = frozen(make(), scheme), torch.randint(0, 100, (2, 7))
    compiled = torch.compile(model, backend=fuse.backend, options=OPTIONS, fullgraph=True)
    with torch.no_grad():
        found, expected = compiled(ids)[0], model(ids)[0]
    assert joined == [count]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-2 * expected.abs().max().item())
    similar = torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    assert similar > 0.9999  # GELU in another precision moves a few numbers by a step of int8


def test_sharing_alone_changes_no_bit(joined):
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = nn.Linear(64, 32), nn.Linear(64, 48), nn.Linear(64, 1)

        def forward(self, x):
            return self.q(x), self.k(x), self.v(x)

    torch.manual_seed(0)
    model, x = frozen(Heads(), "w4a8"), torch.randn(3, 5, 64)
    compiled = torch.compile(model, backend=fuse.backend, options=OPTIONS, fullgraph=True)
    with torch.no_grad():
        pairs = zip(compiled(x), model(x), strict=True)
    assert joined == [1]
    assert all(torch.equal(found, expected) for found, expected in pairs)


@pytest.mark.parametrize(
    "function", [nn.ReLU(), nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU()], ids=repr
)
def test_functions_join_the_layer_before_them(function, joined):
    torch.manual_seed(0)
    model, x = frozen(nn.Sequential(nn.Linear(64, 32), function), "w8a8"), torch.randn(9, 64)
    compiled = torch.compile(model, backend=fuse.backend, options=OPTIONS, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=2e-6)
    assert joined == [1]


def test_what_others_read_is_left_alone(joined):
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 32)

        def forward(self, x):
            y = self.linear(x)
            return torch.relu(y) + y

    model, x = frozen(Both(), "w8a8"), torch.randn(9, 64)
    compiled = torch.compile(model, backend=fuse.backend, options=OPTIONS, fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(x), model(x))
    assert joined == [0]


def test_training_is_left_alone(joined):
    model, x = frozen(encoder(), "w8a8"), torch.randint(0, 100, (2, 7))
    compiled = torch.compile(model, backend=fuse.backend, options=OPTIONS)
    torch.testing.assert_close(compiled(x)[0], model(x)[0])
    assert joined == []
