"""Groups found by tracing, on architectures nobody listed in the code."""

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    FalconConfig,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PhiConfig,
    Qwen2Config,
    ViTConfig,
)

from workbench.graph import gain_offset, input_groups

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 97}
TOKENS = {"input_ids": torch.arange(12).view(2, 6)}

CASES = {
    "llama": (LlamaConfig(**SMALL, intermediate_size=48), {"qkv": True, "gate": True}),
    "qwen2": (
        Qwen2Config(**SMALL, intermediate_size=48, num_key_value_heads=2),
        {"qkv": True, "gate": True},
    ),
    "gemma": (
        GemmaConfig(**SMALL, intermediate_size=48, head_dim=8, num_key_value_heads=1),
        {"qkv": True, "gate": True},
    ),
    "opt": (OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32), {"qkv": True, "fc1": True}),
    "neox": (
        GPTNeoXConfig(**SMALL, intermediate_size=48),
        {"query_key_value": True, "dense_h_to_4h": True},
    ),
    # Attention and MLP side by side read one norm: one group, or the fold would be wrong.
    "phi": (PhiConfig(**SMALL, intermediate_size=48), {"qkv fc1": True}),
    "falcon": (FalconConfig(**SMALL), {"query_key_value dense_h_to_4h": True}),
    # Post-norm: the residual reads the norm too.
    "bert": (BertConfig(**SMALL, intermediate_size=48), {"qkv": False, "intermediate": False}),
    "vit": (
        ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, image_size=16,
                  patch_size=8, intermediate_size=48),
        {"qkv": True, "fc1": True},
    ),
}  # fmt: skip


def build(config):
    language = config.model_type not in ("bert", "vit")
    torch.manual_seed(0)
    return (AutoModelForCausalLM if language else AutoModel).from_config(config).eval()


def inputs(config):
    return {"pixel_values": torch.randn(2, 3, 16, 16)} if config.model_type == "vit" else TOKENS


@pytest.mark.parametrize("name", CASES)
def test_groups_are_those_of_the_architecture(name):
    config, expected = CASES[name]
    groups = input_groups(build(config), inputs(config))
    with_norm = [group for group in groups if group.norm]
    assert [group.foldable for group in with_norm][: len(expected)] == list(expected.values())
    for group, what in zip(with_norm, expected, strict=False):
        members = {linear.rpartition(".")[2] for linear in group.linears}
        if "qkv" in what.split():
            assert len(members) == 3 + ("fc1" in what)
        if "gate" in what:
            assert members == {"gate_proj", "up_proj"}
        if "dense_h_to_4h" in what.split():
            assert "dense_h_to_4h" in members


@pytest.mark.parametrize("name", CASES)
def test_each_linear_is_in_exactly_one_group(name):
    config, _ = CASES[name]
    model = build(config)
    groups = input_groups(model, inputs(config))
    grouped = [linear for group in groups for linear in group.linears]
    linears = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    assert sorted(grouped) == sorted(linears)


def test_a_norm_read_by_something_else_is_not_foldable():
    class Reader(nn.Module):
        def __init__(self, extra):
            super().__init__()
            self.norm, self.linear, self.extra = nn.LayerNorm(8), nn.Linear(8, 8), extra

        def forward(self, x):
            normed = self.norm(x)
            out = self.linear(normed)
            return out + normed.sum() if self.extra else out

    batch = {"x": torch.randn(2, 8)}
    assert input_groups(Reader(False), batch)[0].foldable
    group = input_groups(Reader(True), batch)[0]
    assert not group.foldable
    assert "sum" in group.reason


def test_a_norm_that_is_the_output_is_not_foldable():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)

        def forward(self, x):
            normed = self.norm(x)
            return {"normed": normed, "out": self.linear(normed)}

    group = input_groups(Both(), {"x": torch.randn(2, 8)})[0]
    assert not group.foldable
    assert "output" in group.reason


def test_gains_are_recognized_by_what_they_do():
    class OnePlus(nn.RMSNorm):
        def forward(self, x):
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)

    x = torch.randn(4, 16)
    assert gain_offset(nn.LayerNorm(16), x) == 0
    assert gain_offset(nn.RMSNorm(16), x) == 0
    assert gain_offset(OnePlus(16), x) == 1
    assert gain_offset(nn.PReLU(16), x) is None
    assert gain_offset(nn.Linear(16, 16), x) is None


def test_recognizing_leaves_the_norm_as_it_was():
    norm = nn.LayerNorm(16)
    nn.init.normal_(norm.weight)
    before = norm.weight.detach().clone()
    parameter = norm.weight
    gain_offset(norm, torch.randn(4, 16))
    assert norm.weight is parameter
    assert torch.equal(norm.weight, before)
