"""The alpha search against direct computation, and its promises."""

import math

import pytest
import torch
from torch.nn import functional as F
from zoo import ZOO

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.observe import observe
from workbench.progress import Cancelled, reporting
from workbench.smooth import search_alpha, smoothing_scales

TOKEN = wb.QuantArgs(granularity="token", dynamic=True)
ALPHAS = (0.2, 0.5, 0.8)


def data(count=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [{"input_ids": torch.randint(0, 97, (2, 16), generator=g)} for _ in range(count)]


@pytest.fixture
def llama(tiny_llama):
    for name, parameter in tiny_llama.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data[::11] += 20.0
        elif parameter.dim() > 1:
            parameter.data.mul_(8)
    return tiny_llama


def rounded_rows(values, limit=127):
    step = values.abs().amax(-1, keepdim=True) / limit
    return (values / step).round() * step


def test_linear_errors_are_those_of_rounding_by_hand(llama):
    """Weights per output channel and inputs per token, as the formulas of 8-bit rounding say."""
    (batch,), statistics = data(1, seed=5), observe(llama, data())
    found = search_alpha(llama, statistics, [batch], activations=TOKEN, alphas=ALPHAS)
    name = "model.layers.0.mlp.[gate_proj up_proj]"
    entry, mlp = statistics[name], llama.model.layers[0].mlp
    inputs = []
    handle = mlp.gate_proj.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    with torch.no_grad():
        llama(**batch)
    handle.remove()
    for turn, alpha in enumerate(ALPHAS):
        s = smoothing_scales(entry.absmax, entry.weight_absmax, alpha)
        errors = []
        for linear in (mlp.gate_proj, mlp.up_proj):
            expected = F.linear(inputs[0], linear.weight).flatten(0, 1).detach()
            ours = F.linear(rounded_rows(inputs[0] / s), rounded_rows(linear.weight * s))
            signal = expected.square().mean(0)
            errors.append(((ours.flatten(0, 1) - expected).square() / signal).mean().item())
        row = found.names.index(name)
        assert found.linear_error[row, turn].item() == pytest.approx(sum(errors) / 2, rel=0.02)


def test_every_batch_counts_with_what_the_others_tell(llama):
    """The sweep over three batches is the mean of three, each with the statistics of two others.

    A sweep that kept the last batch alone, or ranges that saw what they are tried on, would differ.
    """
    batches = data(3)
    whole = search_alpha(llama, observe(llama, batches), batches, alphas=ALPHAS)
    each = [
        search_alpha(
            llama, observe(llama, [b for b in batches if b is not one]), [one], alphas=ALPHAS
        )
        for one in batches
    ]
    for kind in ("linear_error", "block_error"):
        mean = torch.stack([getattr(one, kind) for one in each]).mean(0)
        torch.testing.assert_close(getattr(whole, kind), mean, rtol=1e-9, atol=0)
    assert not torch.allclose(whole.block_error, each[-1].block_error, rtol=1e-3)


def test_the_choice_is_the_least_of_the_sweep(llama):
    found = search_alpha(llama, observe(llama, data()), data(), alphas=ALPHAS, by="block")
    assert set(found.chosen) == set(found.names)
    assert "lm_head" not in found.names
    assert found.block_error.shape == (len(found.names), len(ALPHAS))
    assert found.block_error.isfinite().all()
    for row, name in enumerate(found.names):
        assert found.chosen[name] == ALPHAS[int(found.block_error[row].argmin())]
    by_linear = search_alpha(llama, observe(llama, data()), data(), alphas=ALPHAS, by="linear")
    for row, name in enumerate(found.names):
        assert by_linear.chosen[name] == ALPHAS[int(found.linear_error[row].argmin())]


def test_the_whole_model_decides_between_single_and_searched_alphas(llama):
    found = search_alpha(llama, observe(llama, data()), data(), alphas=ALPHAS)
    assert {"0.2", "0.5", "0.8", "linear", "block"} < set(found.candidates)
    assert len(found.candidates) == len(ALPHAS) + 4
    best = min(found.candidates, key=found.candidates.get)
    if best in ("0.2", "0.5", "0.8"):
        assert set(found.chosen.values()) == {float(best)}
    else:
        assert set(found.chosen) == set(found.names)


def test_the_choice_is_taken_by_smooth(llama):
    statistics = observe(llama, data())
    found = search_alpha(llama, statistics, data(), alphas=ALPHAS)
    smoothing = wb.smooth(llama, statistics, None, overrides=found.chosen)
    assert {g.name: g.alpha for g in smoothing.groups if g.how != "skipped"} == found.chosen


def test_the_verdict_is_measured_on_held_out_batches_and_honest(llama):
    statistics, held_out = observe(llama, data()), data(2, seed=9)
    found = search_alpha(llama, statistics, data(), alphas=ALPHAS, held_out=held_out)
    verdict = found.verdict
    assert set(verdict.single) == set(ALPHAS)
    assert verdict.single[verdict.best_single] == min(verdict.single.values())
    assert verdict.beats == (verdict.searched < min(verdict.single.values()))
    assert ("do not beat" in str(verdict)) is not verdict.beats
    # By hand, for one alpha.
    from workbench.models.loaded import share

    model = share(llama)
    wb.smooth(model, statistics, 0.5)
    wb.quantize(model, "int8", "int8", exclude="lm_head")
    with torch.no_grad(), wb.Calibration(model):
        for batch in data():
            model(**batch)
    wb.freeze(model)
    total = []
    with torch.no_grad():
        for batch in held_out:
            p, q = (m(**batch).logits.log_softmax(-1) for m in (llama, model))
            total.append(F.kl_div(q, p, log_target=True, reduction="none").sum(-1).flatten())
    expected = torch.cat(total).mean().item()
    assert verdict.single[0.5] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["gpt2", "mixtral", "bert", "t5", "vit", "deberta_v2", "phi"])
def test_other_architectures_are_searched_too(name):
    model, batches = ZOO[name].model(), ZOO[name].batches(2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    statistics = observe(model, batches)
    found = search_alpha(model, statistics, batches, alphas=ALPHAS, held_out=batches)
    assert found.linear_error.isfinite().all()
    assert math.isfinite(found.verdict.searched)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_padding_does_not_count():
    model = ZOO["bert"].model()
    ids = torch.randint(3, 97, (2, 10), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[:, 6:] = 0
    other = ids.clone()
    other[:, 6:] = 5
    batches = [[{"input_ids": i, "attention_mask": mask}] for i in (ids, other)]
    statistics = observe(model, batches[0])
    one, two = (
        search_alpha(model, statistics, b, alphas=ALPHAS, activations=TOKEN) for b in batches
    )
    inside = [i for i, n in enumerate(one.names) if "layer.0" in n]
    torch.testing.assert_close(one.block_error[inside], two.block_error[inside])


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"alphas": [0.5, 1.5]}, "from 0"),
        ({"alphas": []}, "no alphas"),
        ({"exclude": ["*"]}, "no inputs"),
        ({"batches": []}, "no batches"),
    ],
)
def test_nothing_to_search_is_refused(llama, changed, complaint):
    arguments = {"batches": data(), **changed}
    with pytest.raises(WorkbenchError, match=complaint):
        search_alpha(llama, observe(llama, data()), **arguments)


def test_a_search_can_be_cancelled_and_leaves_the_model_as_it_was(llama):
    class Stop:
        def __init__(self):
            self.seen = []

        def update(self, what, done, total):
            self.seen.append((what, done, total))

        def check(self):
            if any(done for what, done, _ in self.seen if what == "searching alphas"):
                raise Cancelled("enough")

    statistics, stop = observe(llama, data()), Stop()
    before = {k: v.clone() for k, v in llama.state_dict().items()}
    with pytest.raises(Cancelled), reporting(stop):
        search_alpha(llama, statistics, data(), alphas=ALPHAS)
    assert ("searching alphas", 1, 3) in stop.seen
    assert all(torch.equal(v, before[k]) for k, v in llama.state_dict().items())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in llama.modules())
    assert llama.config.use_cache
