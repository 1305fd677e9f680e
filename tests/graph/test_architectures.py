"""Groups of tiny models of many architectures: listed by hand, proven by changing weights."""

import copy

import pytest
import torch
from torch import Tensor
from zoo import ZOO

from workbench.graph import along, gain_offset, input_groups
from workbench.graph.calls import calls, run

# Pairs "maker>first reader" that must fold, and readers that must not, by the last part of their
# names: read off the architectures, not off a run.
LISTED = {
    "llama": "input_layernorm>q_proj v_proj>o_proj post_attention_layernorm>gate_proj "
    "up_proj>down_proj | lm_head",
    "mistral": "input_layernorm>q_proj v_proj>o_proj post_attention_layernorm>gate_proj "
    "up_proj>down_proj norm>lm_head |",
    "qwen3": "input_layernorm>q_proj v_proj>o_proj post_attention_layernorm>gate_proj "
    "up_proj>down_proj norm>lm_head |",
    "gemma3": "input_layernorm>q_proj v_proj>o_proj pre_feedforward_layernorm>gate_proj "
    "up_proj>down_proj | lm_head",
    "gpt2": "ln_1>c_attn c_attn>c_proj ln_2>c_fc | c_proj lm_head",
    "phi": "input_layernorm>q_proj v_proj>dense final_layernorm>lm_head | fc2",
    "opt": "self_attn_layer_norm>q_proj v_proj>out_proj final_layer_norm>fc1 fc1>fc2 | lm_head",
    "gpt_neox": "input_layernorm>query_key_value query_key_value>dense "
    "post_attention_layernorm>dense_h_to_4h final_layer_norm>lm_head | dense_4h_to_h",
    "falcon": "input_layernorm>query_key_value query_key_value>dense | dense_4h_to_h lm_head",
    "bloom": "input_layernorm>query_key_value query_key_value>dense "
    "post_attention_layernorm>dense_h_to_4h | dense_4h_to_h lm_head",
    "mixtral": "input_layernorm>q_proj v_proj>o_proj post_attention_layernorm>gate norm>lm_head |",
    "qwen3_moe": "input_layernorm>q_proj v_proj>o_proj post_attention_layernorm>gate "
    "norm>lm_head |",
    "gpt_oss": "input_layernorm>q_proj v_proj>o_proj post_attention_layernorm>router "
    "norm>lm_head |",
    "mamba": "norm>in_proj | x_proj out_proj lm_head",
    "mamba2": "norm>in_proj norm>out_proj norm_f>lm_head |",
    # Post-norm: the residual reads the norm, only values fold; the head's transform is no block.
    "bert": "value>dense LayerNorm>dense | query dense decoder",
    "roberta": "value>dense | query dense",
    "distilbert": "v_lin>out_lin | q_lin lin1 lin2",
    # One norm of the relative positions is read by all layers, each of which has a copy.
    "deberta_v2": "value_proj>dense LayerNorm>pos_key_proj | query_proj dense",
    # Its first block has no norm of its own; its MLP is one matrix of both factors.
    "modernbert": "attn_norm>Wqkv Wqkv>Wo mlp_norm>Wi Wi>Wo | Wqkv",
    "t5": "layer_norm>q v>o layer_norm>wi_0 wi_1>wo | k lm_head",
    "bart": "v_proj>out_proj | q_proj k_proj fc1 fc2 lm_head",
    "whisper": "self_attn_layer_norm>q_proj v_proj>out_proj encoder_attn_layer_norm>q_proj "
    "final_layer_norm>fc1 | k_proj fc2 proj_out",
    "vit": "layernorm_before>q_proj v_proj>o_proj layernorm_after>fc1 | fc2 dense",
    "clip": "layer_norm1>q_proj v_proj>out_proj layer_norm2>fc1 post_layernorm>visual_projection "
    "| fc2 text_projection",
    "convnext": "layernorm>pwconv1 layernorm>classifier | pwconv2",
    "swin": "layernorm_before>q_proj v_proj>o_proj layernorm_after>fc1 norm>reduction "
    "layernorm>classifier | fc2",
    "wav2vec2": "v_proj>out_proj | q_proj intermediate_dense output_dense projection",
    "torch_encoder": "linear1>linear2 | linear1",
}


def leaf(name: str) -> str:
    return name.rpartition(".")[2]


def found(name: str):
    model = ZOO[name].model()
    (batch,) = ZOO[name].batches(1)
    return model, batch, input_groups(model, batch)


@pytest.mark.parametrize("name", LISTED)
def test_groups_are_those_of_the_architecture(name) -> None:
    _, _, groups = found(name)
    folds, others = (set(part.split()) for part in LISTED[name].split("|"))
    assert {f"{leaf(g.maker)}>{leaf(g.readers[0])}" for g in groups if g.foldable} == folds
    assert {leaf(g.readers[0]) for g in groups if not g.foldable} == others
    assert all(g.reason for g in groups)


def scaled(model, group, factors: Tensor):
    """A copy of `model` with the group's input multiplied by 1 / `factors` and its columns back."""
    changed = copy.deepcopy(model)
    maker = changed.get_submodule(group.maker)
    rows = torch.tensor(group.rows)
    axis = 1 if type(maker).__name__ == "Conv1D" else 0
    by_row = torch.ones(maker.weight.shape[axis])
    by_row[rows[rows >= 0]] = 1 / factors[rows >= 0]
    maker.weight.data = along(group.offset + maker.weight, by_row, axis) - group.offset
    if getattr(maker, "bias", None) is not None:
        maker.bias.data *= by_row
    for matrix in group.matrices:
        weight = changed.get_submodule(matrix.module)._parameters[matrix.parameter]
        weight.data = along(weight, factors, matrix.axis)
    return changed


def close(one, other) -> bool:
    return all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("name", ZOO)
def test_every_fold_found_preserves_the_function(name) -> None:
    """On data that the search did not see, with factors that are no powers of two."""
    model, _, groups = found(name)
    batch = ZOO[name].batches(2, seed=7)[1]
    for group in (g for g in groups if g.foldable):
        g = torch.Generator().manual_seed(3)
        rows = torch.tensor(group.rows)
        own = torch.rand(int(rows.max()) + 1, generator=g) * 3 + 0.3
        factors = own[rows.clamp_min(0)].where(rows >= 0, 1.0)
        with torch.no_grad():
            torch.manual_seed(0)
            before = run(model, batch)
            torch.manual_seed(0)
            after = run(scaled(model, group, factors), batch)
        assert close(after, before), group.name
        assert (rows >= 0).all(), f"{group.name}: every channel has its source"


@pytest.mark.parametrize("name", ZOO)
def test_no_norm_that_could_be_folded_is_missed(name) -> None:
    """Fold each norm into all linears whose input equals its output, and look at what comes out.

    This knows nothing of traces: it compares values. Where the output stays, the fold is exact and
    must be listed.
    """
    model, batch, groups = found(name)
    seen = calls(model, batch)
    listed = {g.maker for g in groups if g.foldable}
    for norm, call in seen.items():
        if call.input is None or gain_offset(call.module, call.input) is None:
            continue
        flat = call.output.flatten()
        readers = [
            reader
            for reader, other in seen.items()
            if isinstance(other.module, torch.nn.Linear)
            and other.input is not None
            and torch.equal(other.input.flatten(), flat)
        ]
        if not readers:
            continue
        generator = torch.Generator().manual_seed(5)
        width = call.output.shape[-1:]
        factors = torch.exp2(torch.randint(1, 4, width, generator=generator).float())
        changed = copy.deepcopy(model)
        gain = changed.get_submodule(norm)
        offset = gain_offset(call.module, call.input)
        gain.weight.data = (offset + gain.weight.data) / factors - offset
        if getattr(gain, "bias", None) is not None:
            gain.bias.data /= factors
        for reader in readers:
            weight = changed.get_submodule(reader).weight
            weight.data = weight.data * factors
        with torch.no_grad():
            exact = close(run(changed, batch), run(model, batch))
        assert not exact or norm in listed, f"{norm} folds into {readers} and is not listed"
