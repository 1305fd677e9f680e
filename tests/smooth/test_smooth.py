"""Smoothing against the paper's formula: exact in float, and what it promises of the maxima."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import ZOO

from workbench.errors import WorkbenchError
from workbench.graph.calls import run
from workbench.observe import observe
from workbench.quant import (
    QuantArgs,
    TransformedLinear,
    dequantize,
    freeze,
    quantization_map,
    quantize,
    requantize,
)
from workbench.smooth import smooth, smoothing_scales


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


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e-4, 1e4), st.floats(1e-4, 1e2)), min_size=1, max_size=20),
    st.floats(0, 1),
)
def test_scales_are_equation_4_in_float64(maxima, alpha):
    """arXiv:2211.10438: s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)."""
    x, w = (torch.tensor(column, dtype=torch.float32) for column in zip(*maxima, strict=True))
    expected = x.double().pow(alpha) / w.double().pow(1 - alpha)
    ours = smoothing_scales(x, w, alpha).double()
    # A clamp at 1e-5 leaves such maxima alone; the result is rounded to float32 once.
    assert torch.all((ours / expected - 1).abs() < 2**-23)


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


def seen_by(model, smoothing, batches):
    """What the arithmetic of each group's first linear sees: after the slot, where there is one."""
    seen, handles = {}, []

    def hook(name):
        def keep(module, args):
            x = args[0]
            if isinstance(module, TransformedLinear):
                x = x * module.input_transform
            seen.setdefault(name, []).append(x.detach().flatten(0, -2))

        return keep

    for group in smoothing.groups:
        module = model.get_submodule(group.linears[0])
        handles.append(module.register_forward_pre_hook(hook(group.name)))
    with torch.no_grad():
        for batch in batches:
            model(**batch)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in seen.items()}


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.8])
def test_observed_maxima_become_exactly_what_was_promised(llama, alpha):
    statistics = observe(llama, data())
    original = copy.deepcopy(llama)
    smoothing = smooth(llama, statistics, alpha)
    for name, x in seen_by(llama, smoothing, data()).items():
        group = next(g for g in smoothing.groups if g.name == name)
        if group.how == "skipped":
            continue
        entry = statistics[name]
        promised = entry.absmax / group.scales
        torch.testing.assert_close(x.abs().amax(0), promised, rtol=1e-4, atol=1e-5)
        fallen = (promised.max() / promised.median()).item()
        assert observe_ratio(x) == pytest.approx(fallen, rel=1e-3)
        assert fallen < entry.outlier_ratio
        for linear in group.linears:  # columns times s; rows by what folds into this very layer
            before, after = (m.get_submodule(linear).weight.detach() for m in (original, llama))
            rows = after / (before * group.scales)
            torch.testing.assert_close(rows, rows[:, :1].expand_as(rows), rtol=1e-4, atol=1e-5)
            if "v_proj" not in linear and "up_proj" not in linear:
                torch.testing.assert_close(rows, torch.ones_like(rows), rtol=1e-5, atol=1e-6)


def observe_ratio(x):
    absmax = x.abs().amax(0)
    return (absmax.max() / absmax.median()).item()


def test_norm_fed_inputs_fold_and_so_do_values_and_products(llama):
    smoothing = smooth(llama, observe(llama, data()), 0.5)
    how = {g.linears[0].rpartition(".")[2]: g.how for g in smoothing.groups}
    assert how == {
        "q_proj": "fold",
        "o_proj": "fold",
        "gate_proj": "fold",
        "down_proj": "fold",
        "lm_head": "skipped",
    }
    assert not any(isinstance(m, TransformedLinear) for m in llama.modules()), "no cost at run time"


def test_grouped_heads_share_the_scale_of_their_values(llama):
    """By the formula on the maxima over the two query heads that read one head of values."""
    statistics = observe(llama, data())
    smoothing = smooth(llama, statistics, 0.6)
    name = "model.layers.1.self_attn.o_proj"
    entry, scales = statistics[name], smoothing.of(name).scales
    x, w = (t.double().view(2, 2, 8).amax(1) for t in (entry.absmax, entry.weight_absmax))
    expected = (x**0.6 / w**0.4).unsqueeze(1).expand(2, 2, 8).flatten()
    torch.testing.assert_close(scales.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ZOO)
def test_every_architecture_keeps_its_float_output(name):
    model = ZOO[name].model()
    batches = ZOO[name].batches(2)
    statistics = observe(model, batches)
    held_out = ZOO[name].batches(3)[2]
    with torch.no_grad():
        torch.manual_seed(0)
        before = run(model, held_out)
        smoothing = smooth(model, statistics, 0.6)
        torch.manual_seed(0)
        after = run(model, held_out)
    for new, old in zip(after, before, strict=True):
        assert (new - old).abs().max() <= 2e-4 * old.abs().max()
    done = [g for g in smoothing.groups if g.how != "skipped"]
    for entry, group in zip(statistics, smoothing.groups, strict=True):
        assert group.reason
        if entry.foldable and "lm_head" not in entry.name:
            assert group.how == "fold", f"{group.name}: {group.reason}"
    if name != "torch_recurrent":  # nothing in it folds, and recurrent layers have no slot
        assert done, "something was smoothed"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert", {"fold", "slot", "skipped"}),  # values fold, post-norms cannot, the head is tied
        ("gemma3", {"fold", "skipped"}),
        ("opt", {"fold", "skipped"}),  # ReLU: fc1 -> fc2 folds as well
        ("phi", {"fold", "slot", "skipped"}),  # GELU: fc2 needs the slot
        ("gpt2", {"fold", "slot", "skipped"}),  # GELU too; its layers keep their weights [in, out]
    ],
)
def test_the_slot_serves_where_nothing_folds(name, expected):
    model = ZOO[name].model()
    smoothing = smooth(model, observe(model, ZOO[name].batches(1)), 0.6)
    assert {g.how for g in smoothing.groups} == expected


def test_the_slot_of_gpt2_s_layers_survives_quantizing_and_their_way_back():
    """The slot's scales take rounding to 8 bits and come back as floats, where they were."""
    model, (batch,) = ZOO["gpt2"].model(), ZOO["gpt2"].batches(1)
    with torch.no_grad():
        before = model(**batch).logits
        smoothing = smooth(model, observe(model, [batch]), 0.6)
        group = smoothing.of("transformer.h.1.mlp.c_proj")
        slot = model.transformer.h[1].mlp.c_proj.input_transform
        assert group.how == "slot"
        torch.testing.assert_close(slot, 1 / group.scales)
        quantize(model, "int8", exclude="lm_head")
        freeze(model)
        noise = (model(**batch).logits - before).abs().max() / before.abs().max()
        assert noise < 0.05
        fresh = ZOO["gpt2"].model()
        requantize(fresh, model.state_dict(), quantization_map(model))
        assert torch.equal(fresh(**batch).logits, model(**batch).logits)
        frozen = model(**batch).logits
        dequantize(model)
        torch.testing.assert_close(model(**batch).logits, frozen, rtol=1e-4, atol=1e-4)
    assert torch.equal(model.transformer.h[1].mlp.c_proj.input_transform, slot)


def test_experts_are_smoothed_with_their_router():
    model = ZOO["mixtral"].model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    smoothing = smooth(model, observe(model, ZOO["mixtral"].batches(1)), 0.6)
    group = smoothing.of("model.layers.0.mlp.experts")
    assert group.how == "fold"
    now = model.state_dict()
    key = "model.layers.0.mlp.experts.gate_up_proj"
    torch.testing.assert_close(now[key], before[key] * group.scales)
    key = "model.layers.0.mlp.gate.weight"
    torch.testing.assert_close(now[key], before[key] * group.scales)


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_what_experts_multiply_inside_is_listed(name):
    """Their other weight: quantized modules round no activations where no slot reaches."""
    model = ZOO[name].model()
    experts = "model.layers.0.mlp.experts"
    before = model.state_dict()[f"{experts}.down_proj"].clone()
    smoothing = smooth(model, observe(model, ZOO[name].batches(1)), 0.6)
    assert "stays in float" in smoothing.left[f"{experts}.down_proj"]
    assert f"{experts}.gate_up_proj" not in smoothing.left
    assert smoothing.reason(experts).endswith(smoothing.left[f"{experts}.down_proj"])
    assert torch.equal(model.state_dict()[f"{experts}.down_proj"], before)
    quantize(model, "int8", QuantArgs(granularity="token", dynamic=True))
    assert not model.get_submodule(experts).rounds_activations


def test_norms_that_compute_one_plus_weight_get_the_right_weight():
    model = ZOO["gemma3"].model()
    norm = model.model.layers[0].input_layernorm
    before = norm.weight.detach().clone()
    smoothing = smooth(model, observe(model, ZOO["gemma3"].batches(1)), 0.6)
    scales = smoothing.of("model.layers.0.self_attn.q_proj").scales
    torch.testing.assert_close(1 + norm.weight, (1 + before) / scales)


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
    overrides = {"*.self_attn.q_proj": 0.3, "*.mlp.*": 0.8}
    smoothing = smooth(llama, observe(llama, data()), None, overrides=overrides)
    found = {g.linears[0].rpartition(".")[2]: (g.how, g.alpha) for g in smoothing.groups}
    assert found["q_proj"] == ("fold", 0.3)
    assert found["gate_proj"] == ("fold", 0.8)
    assert found["o_proj"][0] == "skipped"


def test_a_group_can_be_named_and_left_alone(llama):
    name = "model.layers.1.mlp.[gate_proj up_proj]"  # as a pattern, brackets would mean letters
    smoothing = smooth(llama, observe(llama, data()), 0.5, overrides={name: None})
    assert [g.name for g in smoothing.groups if "no alpha" in g.reason] == [name]


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"*.q_proj": 0.3, "*.k_proj": 0.4}, r"'\*\.q_proj' \(0\.3\) and .*share one input"),
        ({"*.mlp.*": 0.3, "*down_proj": None}, r"'\*\.mlp\.\*' \(0\.3\) and .*\(None\)"),
        ({"*.mpl.*": 0.3}, r"'\*\.mpl\.\*' matches no input"),
        ({"*": 1.2}, "from 0"),
    ],
)
def test_overrides_that_conflict_or_match_nothing_are_refused(llama, overrides, complaint):
    statistics = observe(llama, data())
    before = {k: v.clone() for k, v in llama.state_dict().items()}
    with pytest.raises(WorkbenchError, match=complaint):
        smooth(llama, statistics, 0.5, overrides=overrides)
    assert all(torch.equal(v, before[k]) for k, v in llama.state_dict().items())


def test_overrides_that_agree_are_no_conflict(llama):
    overrides = {"*.q_proj": 0.3, "*.k_proj": 0.3}
    assert smooth(llama, observe(llama, data()), 0.5, overrides=overrides).groups[0].alpha == 0.3


def test_statistics_of_another_model_are_refused(llama):
    statistics = observe(llama, data())
    with pytest.raises(WorkbenchError, match="observe it anew"):
        smooth(torch.nn.Linear(2, 2), statistics, 0.5)
