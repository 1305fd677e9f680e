"""The ways from a maker to a reader, each in the smallest module that has it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel
from zoo import ZOO

import workbench as wb
from workbench.graph import InputGroup, input_groups


def group(model: nn.Module, batch: dict[str, Tensor], reader: str) -> InputGroup:
    return next(g for g in input_groups(model.eval(), batch) if reader in g.readers)


def of(name: str, reader: str) -> InputGroup:
    return group(ZOO[name].model(), ZOO[name].batches(1)[0], reader)


class Between(nn.Module):
    """Two linears with a function between them."""

    def __init__(self, function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.function = nn.Linear(12, 20), nn.Linear(20, 5), function

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.function(self.one(x)))


X = {"x": torch.randn(4, 9, 12, generator=torch.Generator().manual_seed(1)) * 3}


@pytest.mark.parametrize(
    ("function", "folds"),
    [
        (F.relu, True),
        (nn.LeakyReLU(0.1), True),
        (nn.Identity(), True),
        (nn.Dropout(0.5), True),
        (lambda x: x.flip(-1), True),
        (F.gelu, False),
        (F.silu, False),
        (F.relu6, False),
        (lambda x: F.relu(x) ** 2, False),
        (lambda x: x + 1, False),
        (lambda x: x / x.norm(dim=-1, keepdim=True), False),
    ],
    ids=["relu", "leaky", "identity", "dropout", "flip", "gelu", "silu", "relu6", "squared relu",
         "plus one", "unit length"],
)  # fmt: skip
def test_a_linear_folds_where_what_follows_is_positively_homogeneous(function, folds) -> None:
    found = group(Between(function), X, "two")
    assert found.foldable is folds
    if folds:
        flipped = function(torch.arange(20.0)[None])[0, 0] == 19
        assert found.rows == tuple(reversed(range(20)) if flipped else range(20))
    else:
        assert "no channel scales one channel" in found.reason


def test_a_channel_that_is_dead_in_the_trial_is_found_by_its_neighbours() -> None:
    model = Between(F.relu)
    model.one.bias.data[7] = -1e3
    assert group(model, X, "two").rows == tuple(range(20))


def test_grouped_heads_share_the_channels_of_their_values() -> None:
    """Four query heads of eight channels read two heads of values: each twice, side by side."""
    found = of("llama", "model.layers.0.self_attn.o_proj")
    assert found.maker == "model.layers.0.self_attn.v_proj"
    assert list(found.rows) == [head * 8 + i for head in (0, 0, 1, 1) for i in range(8)]


def test_fused_queries_keys_and_values_give_the_rows_of_the_values() -> None:
    contiguous = of("gpt2", "transformer.h.0.attn.c_proj")
    assert list(contiguous.rows) == list(range(64, 96)), "queries, keys, values of 32"
    by_head = of("gpt_neox", "gpt_neox.layers.0.attention.dense")
    expected = [head * 24 + 16 + i for head in range(4) for i in range(8)]
    assert list(by_head.rows) == expected, "each head has its three together"


@pytest.mark.parametrize(("activation", "folds"), [("relu", True), ("gelu_new", False)])
def test_gpt_2_s_matrices_fold_through_relu_and_take_a_slot_behind_gelu(activation, folds) -> None:
    """transformers' Conv1D keeps its weights [in, out]."""
    config = GPT2Config(
        vocab_size=97,
        n_embd=32,
        n_layer=1,
        n_head=4,
        n_positions=64,
        activation_function=activation,
    )
    torch.manual_seed(0)
    model, ids = GPT2LMHeadModel(config).eval(), torch.arange(40).view(2, 20)
    found = group(model, {"input_ids": ids}, "transformer.h.0.mlp.c_proj")
    assert found.foldable is folds
    if folds:
        assert found.maker == "transformer.h.0.mlp.c_fc"
        assert found.rows == tuple(range(128))
    else:
        assert found.reason.startswith("made of transformer.h.0.mlp.c_fc, of which no channel")
    smoothing = wb.smooth(model, wb.observe(model, [{"input_ids": ids}]), 0.5)
    told = smoothing.of("transformer.h.0.mlp.c_proj")
    assert told.how == ("fold" if folds else "slot")


def test_one_matrix_of_gate_and_factor_gives_the_rows_of_the_factor() -> None:
    found = of("modernbert", "layers.0.mlp.Wo")
    assert found.maker == "layers.0.mlp.Wi"
    assert list(found.rows) == list(range(64, 128))


@pytest.mark.parametrize("name", ["phi", "falcon"])
def test_parallel_attention_is_one_group_with_the_mlp(name) -> None:
    model, (batch,) = ZOO[name].model(), ZOO[name].batches(1)
    found = next(
        g for g in input_groups(model, batch) if (g.maker or "").endswith("0.input_layernorm")
    )
    assert found.foldable
    assert {"phi": "mlp.fc1", "falcon": "mlp.dense_h_to_4h"}[name] in " ".join(found.readers)
    assert {"phi": 4, "falcon": 2}[name] == len(found.readers)


def test_norms_that_compute_one_plus_weight_say_so() -> None:
    assert of("gemma3", "model.layers.0.self_attn.q_proj").offset == 1
    assert of("llama", "model.layers.0.self_attn.q_proj").offset == 0


def test_cross_attention_reads_the_encoder_in_one_group_of_all_layers() -> None:
    found = of("whisper", "model.decoder.layers.1.encoder_attn.v_proj")
    assert len(found.readers) == 4, "keys and values of two layers"
    assert not found.foldable
    assert "output" in found.reason, "the encoder's states are returned as well"
    own = of("whisper", "model.decoder.layers.1.encoder_attn.out_proj")
    assert own.maker == "model.decoder.layers.1.encoder_attn.v_proj"
    assert own.foldable


def test_a_tied_weight_is_never_folded_into() -> None:
    found = of("llama", "lm_head")
    assert not found.foldable
    assert "shares its weight" in found.reason


def test_a_maker_that_shares_its_weight_is_left_alone() -> None:
    model = Between(F.relu)
    model.again = nn.Linear(12, 20)
    model.again.weight = model.one.weight
    found = group(model, X, "two")
    assert not found.foldable
    assert "one shares its weight" in found.reason


@pytest.mark.parametrize(("name", "axis"), [("mixtral", 2), ("qwen3_moe", 2), ("gpt_oss", 1)])
def test_experts_are_read_with_their_router(name, axis) -> None:
    """GPT-OSS stores [experts, in, out], the others [experts, out, in]."""
    experts = "model.layers.0.mlp.experts"
    found = of(name, experts)
    assert found.foldable
    assert found.linears == ()
    assert [(m.parameter, m.axis) for m in found.matrices if m.module == experts] == [
        ("gate_up_proj", axis)
    ]
    assert len(found.readers) == 2, "router and experts"


def test_post_norm_cannot_fold_and_says_who_else_reads() -> None:
    found = of("bert", "bert.encoder.layer.0.attention.self.query")
    assert not found.foldable
    assert found.norm == "bert.embeddings.LayerNorm"
    assert "add" in found.reason


def test_a_maker_that_feeds_two_forms_is_left_alone() -> None:
    class Both(Between):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.three(self.one(x)[:, 1:].relu()).sum(1, keepdim=True)

    model = Both(F.relu)
    model.three = nn.Linear(20, 5)
    assert not group(model, X, "two").foldable


def test_nothing_is_changed_and_nothing_left_behind() -> None:
    model, (batch,) = ZOO["llama"].model(), ZOO["llama"].batches(1)
    before = {k: (v, v.clone()) for k, v in model.named_parameters()}
    input_groups(model, batch)
    assert all(
        p is before[k][0] and torch.equal(p, before[k][1]) for k, p in model.named_parameters()
    )
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
