"""Smoothing against the paper's formula: exact in float, and what it promises of the maxima."""

import math

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, BertConfig, GemmaConfig, OPTConfig

from workbench.errors import WorkbenchError
from workbench.observe import observe
from workbench.quant import TransformedLinear
from workbench.smooth import smooth, smoothing_scales

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 97}


def data(seed=0, count=3):
    g = torch.Generator().manual_seed(seed)
    return [{"input_ids": torch.randint(0, 97, (2, 16), generator=g)} for _ in range(count)]


def with_outliers(model):
    """Give every norm a few large gains, as large models have."""
    for name, parameter in model.named_parameters():
        if "norm" in name.lower() and parameter.dim() == 1 and name.endswith("weight"):
            parameter.data[::11] += 20.0
    return model.eval()


@pytest.fixture
def llama(tiny_llama):
    return with_outliers(tiny_llama)


def test_scales_are_the_formula():
    x, w = torch.tensor([100.0, 1.0, 4.0]), torch.tensor([0.1, 0.5, 0.25])
    found = smoothing_scales(x, w, 0.75)
    expected = [a**0.75 / b**0.25 for a, b in zip(x.tolist(), w.tolist(), strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_scales_tell_alpha_from_its_complement():
    x, w = torch.tensor([100.0, 1.0]), torch.tensor([0.1, 0.5])
    assert not torch.allclose(smoothing_scales(x, w, 0.3), smoothing_scales(x, w, 0.7))


def test_a_dead_channel_keeps_scale_one():
    found = smoothing_scales(torch.tensor([0.0, 2.0]), torch.tensor([0.3, 0.3]), 0.5)
    assert found[0] == 1
    assert found[1] != 1


@pytest.mark.parametrize("alpha", [0.0, 0.35, 0.5, 1.0])
def test_the_float_output_stays(llama, alpha):
    batch = data()[0]
    before = llama(**batch).logits
    smooth(llama, observe(llama, data()), alpha)
    after = llama(**batch).logits
    assert (after - before).abs().max() / before.abs().max() < 1e-5


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.8])
def test_observed_maxima_become_exactly_what_was_promised(llama, alpha):
    statistics = observe(llama, data())
    smoothing = smooth(llama, statistics, alpha)
    # What a linear's own arithmetic sees: a folded input directly, one in the slot after the slot.
    seen = {}

    def hook(name):
        def keep(module, args):
            x = args[0]
            if isinstance(module, TransformedLinear):
                x = x * module.input_transform
            seen[name] = torch.maximum(
                seen.get(name, torch.zeros(x.shape[-1])), x.detach().abs().flatten(0, -2).amax(0)
            )

        return keep

    for group in smoothing.groups:
        llama.get_submodule(group.linears[0]).register_forward_pre_hook(hook(group.name))
    with torch.no_grad():
        for batch in data():
            llama(**batch)
    for group in smoothing.groups:
        if group.how == "skipped":
            continue
        entry = statistics[group.name]
        torch.testing.assert_close(
            seen[group.name], entry.absmax / group.scales, rtol=1e-4, atol=1e-5
        )
        columns = torch.stack(
            [llama.get_submodule(n).weight.detach().abs().amax(0) for n in group.linears]
        ).amax(0)
        promised = entry.weight_absmax * group.scales
        torch.testing.assert_close(columns, promised, rtol=1e-5, atol=1e-6)


def test_norm_fed_inputs_fold_and_others_use_the_slot(llama):
    smoothing = smooth(llama, observe(llama, data()), 0.5)
    how = {g.linears[0].rpartition(".")[2]: g.how for g in smoothing.groups}
    assert how == {
        "q_proj": "fold",
        "o_proj": "slot",
        "gate_proj": "fold",
        "down_proj": "slot",
        "lm_head": "skipped",
    }


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (BertConfig(**SMALL, intermediate_size=48), {"slot"}),
        (
            GemmaConfig(**SMALL, intermediate_size=48, head_dim=8, num_key_value_heads=1),
            {"fold", "slot", "skipped"},
        ),
        (OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32), {"fold", "slot", "skipped"}),
    ],
    ids=["bert", "gemma", "opt"],
)
def test_other_architectures_keep_their_float_output(config, expected):
    torch.manual_seed(0)
    kind = AutoModel if config.model_type == "bert" else AutoModelForCausalLM
    model = with_outliers(kind.from_config(config))
    before = model(**data()[0])[0]
    smoothing = smooth(model, observe(model, data()), 0.6)
    after = model(**data()[0])[0]
    assert (after - before).abs().max() / before.abs().max() < 1e-5
    assert {g.how for g in smoothing.groups} == expected


def test_shared_tensors_are_replaced_not_written_to(llama):
    before = {k: v.clone() for k, v in llama.state_dict().items()}
    from workbench.models.loaded import share

    copy = share(llama)
    smooth(copy, observe(copy, data()), 0.5)
    assert all(torch.equal(v, before[k]) for k, v in llama.state_dict().items())


def test_a_fold_that_changes_the_output_is_undone_and_reported(llama):
    """A module whose hidden reader the trace cannot see: the proof must catch it."""
    statistics = observe(llama, data())
    layer = llama.model.layers[0]
    plain = layer.mlp.forward
    gain = layer.post_attention_layernorm

    layer.mlp.forward = lambda x: plain(x) * gain.weight[0].item()
    before = llama(**data()[0]).logits
    smoothing = smooth(llama, statistics, 0.5)
    after = llama(**data()[0]).logits
    group = next(g for g in smoothing.groups if "layers.0.mlp.[gate" in g.name)
    assert group.how == "slot"
    assert "undone" in group.reason
    assert (after - before).abs().max() / before.abs().max() < 1e-5


@pytest.mark.parametrize("alpha", [-0.1, 1.01, math.nan, math.inf, "half"])
def test_alpha_out_of_range_is_refused_and_changes_nothing(llama, alpha):
    before = {k: v.clone() for k, v in llama.state_dict().items()}
    statistics = observe(llama, data())
    with pytest.raises(WorkbenchError, match="from 0"):
        smooth(llama, statistics, alpha)
    assert all(torch.equal(v, before[k]) for k, v in llama.state_dict().items())


def test_a_bad_weight_is_named(llama):
    statistics = observe(llama, data())
    llama.model.layers[1].mlp.down_proj.weight.data[3, 4] = math.nan
    with pytest.raises(WorkbenchError, match=r"layers\.1\.mlp\.down_proj\.weight.*\(3, 4\)"):
        smooth(llama, statistics, 0.5)


def test_patterns_choose_groups(llama):
    alphas = {"*.self_attn.q_proj": 0.3, "*.mlp.*": 0.8}
    smoothing = smooth(llama, observe(llama, data()), alphas)
    found = {g.linears[0].rpartition(".")[2]: (g.how, g.alpha) for g in smoothing.groups}
    assert found["q_proj"] == ("fold", 0.3)
    assert found["gate_proj"] == ("fold", 0.8)
    assert found["o_proj"][0] == "skipped"


def test_statistics_of_another_model_are_refused(llama):
    statistics = observe(llama, data())
    with pytest.raises(WorkbenchError, match="observe it anew"):
        smooth(torch.nn.Linear(2, 2), statistics, 0.5)
