"""The algorithms on one layer: exact cases, bounds, and what they leave behind."""

import copy
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zoo import ZOO

import workbench as wb
from workbench.progress import Cancelled, reporting
from workbench.tune import Awq, Gptq, tune

INT4 = wb.QuantArgs(dtype="int4", granularity="group", group_size=16, symmetric=False)


class One(nn.Module):
    """A single linear, found by name."""

    def __init__(self, out=24, channels=32, bias=True):
        super().__init__()
        self.linear = nn.Linear(channels, out, bias=bias)

    def forward(self, x):
        return self.linear(x)


def made(weights, algorithm, inputs, model):
    """The float model and its tuned copy."""
    tuned = copy.deepcopy(model)
    wb.quantize(tuned, weights=weights)
    report = tune(tuned, [{"x": part} for part in inputs.split(50)], algorithm)
    return tuned, report


def correlated(seed, count=200, channels=32):
    """Inputs whose channels have much in common and very unlike sizes."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=g) @ torch.diag(
        torch.logspace(0, -1.5, channels)
    )
    return torch.randn(count, channels, generator=g) @ mix * torch.logspace(-1, 1, channels)


def output_error(model, tuned, x):
    with torch.no_grad():
        return float((model(x) - tuned(x)).square().sum())


@pytest.mark.parametrize("order", [True, False])
def test_gptq_rounds_to_nearest_where_channels_have_nothing_in_common(order):
    torch.manual_seed(0)
    model, x = One(), torch.diag(torch.linspace(1, 3, 32)).repeat(2, 1)
    nearest, _ = made(INT4, "mse", x, model)
    tuned, _ = made(INT4, ("mse", Gptq(order=order)), x, model)
    wb.freeze(nearest)
    wb.freeze(tuned)
    assert torch.equal(tuned.linear.weight.dequantize(), nearest.linear.weight.dequantize())


def test_gptq_on_two_columns_is_the_arithmetic_of_the_paper():
    """With H = [[a, b], [b, c]] and no damping, the second column takes on `b/c` of the error."""
    model = One(out=1, channels=2, bias=False)
    model.linear.weight = nn.Parameter(torch.tensor([[0.26, 1.0]]))
    x = torch.tensor([[2.0, 1.0], [1.0, 1.0]])  # H = [[5, 3], [3, 2]]
    args = wb.QuantArgs(dtype="int4", granularity="channel")  # scale 1/7
    tuned, _ = made(args, ("rtn", Gptq(damping=0.0)), x, model)
    first = 2 / 7  # of 0.26 * 7 = 1.82
    second = round((1.0 + (0.26 - first) * 3 / 2) * 7) / 7
    with torch.no_grad():
        found = tuned(torch.eye(2)).flatten()
    torch.testing.assert_close(found, torch.tensor([first, second]))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["int2", "int3", "int4", "int8"]))
def test_gptq_leaves_less_error_than_rounding_to_nearest(seed, dtype):
    torch.manual_seed(seed)
    model, x = One(), correlated(seed)
    args = INT4.model_copy(update={"dtype": dtype})
    nearest, before = made(args, "mse", x, model)
    tuned, report = made(args, ("mse", "gptq"), x, model)
    assert output_error(model, tuned, x) < output_error(model, nearest, x)
    assert before[0].sqnr_db is None
    assert report[0].sqnr_db > 0


def test_what_is_tuned_is_what_is_frozen_and_reloaded(tmp_path):
    torch.manual_seed(1)
    model, x = One(), correlated(1)
    tuned, report = made(INT4, ("awq", "gptq", "bias_correction"), x, model)
    before = tuned(x).detach()
    wb.freeze(tuned)
    torch.testing.assert_close(tuned(x), before, rtol=1e-5, atol=1e-4)
    fresh = One()
    wb.requantize(fresh, tuned.state_dict(), wb.quantization_map(tuned))
    assert torch.equal(fresh(x), tuned(x))
    assert report[0].algorithms == ("awq", "gptq", "bias_correction")


def test_sqnr_is_that_of_the_output():
    torch.manual_seed(2)
    model, x = One(bias=False), correlated(2)
    tuned, report = made(INT4, "gptq", x, model)
    with torch.no_grad():
        y, error = model(x), model(x) - tuned(x)
    expected = 10 * torch.log10(y.square().sum() / error.square().sum())
    assert report[0].sqnr_db == pytest.approx(float(expected), abs=0.05)


def test_awq_scales_leave_the_float_function_alone():
    """With 8 bits hardly anything is rounded; the scales must cancel."""
    torch.manual_seed(3)
    model, x = One(), correlated(3)
    tuned, _ = made(wb.QuantArgs(granularity="group", group_size=16), Awq(), x, model)
    assert tuned.linear.input_transform is not None
    assert not torch.allclose(tuned.linear.input_transform, torch.ones(32))
    weight = tuned.linear._parameters["weight"] * tuned.linear.input_transform
    torch.testing.assert_close(weight, model.linear.weight, rtol=1e-5, atol=1e-6)


def test_awq_and_clip_leave_less_error_than_all_of_the_range():
    for seed in range(5):
        torch.manual_seed(seed)
        model, x = One(), correlated(seed)
        errors = {a: output_error(model, made(INT4, a, x, model)[0], x) for a in ("rtn", "awq")}
        assert errors["awq"] < errors["rtn"]


def test_clipping_is_never_worse_than_all_of_the_range_block_by_block():
    torch.manual_seed(4)
    model = One(channels=16)
    x = correlated(4, channels=16)
    args = wb.QuantArgs(dtype="int3", granularity="channel", symmetric=False)
    nearest, clipped = (made(args, a, x, model)[0] for a in ("rtn", "clip"))
    with torch.no_grad():  # one block a row: rows are what is judged
        of_nearest = (model(x) - nearest(x)).square().sum(0)
        of_clipped = (model(x) - clipped(x)).square().sum(0)
    assert bool((of_clipped <= of_nearest * (1 + 1e-4)).all())
    assert float(of_clipped.sum()) < 0.95 * float(of_nearest.sum())


def test_bias_correction_takes_out_the_mean_error():
    torch.manual_seed(5)
    model, x = One(), correlated(5) + 3
    plain, _ = made("int2", "rtn", x, model)
    tuned, _ = made("int2", ("rtn", "bias_correction"), x, model)
    with torch.no_grad():
        before, after = ((model(x) - m(x)).mean(0).abs().max() for m in (plain, tuned))
    assert float(before) > 0.1
    assert float(after) < 1e-4


def test_bias_correction_says_where_there_is_no_bias():
    _, report = made("int4", ("rtn", "bias_correction"), correlated(0), One(bias=False))
    assert report[0].reason == "it has no bias to correct"


def test_the_fold_into_a_norm_is_exact(tiny_llama):
    model = copy.deepcopy(tiny_llama)
    batches = [{"input_ids": torch.arange(40).view(1, 40) + i} for i in range(4)]
    wb.quantize(model, wb.QuantArgs(granularity="channel"))  # 8 bits: what is off is the fold
    report = tune(model, batches, Awq(steps=1))
    folded = [r.name for r in report if "folded into the norm" in r.reason]
    assert {n.rpartition(".")[2] for n in folded} == {
        "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj",
    }  # fmt: skip
    wb.dequantize(model)
    with torch.no_grad():
        expected, found = (m(batches[0]["input_ids"]).logits for m in (tiny_llama, model))
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    gains = tiny_llama.model.layers[0].input_layernorm.weight
    assert not torch.equal(model.model.layers[0].input_layernorm.weight, gains)


def test_the_stream_ends_where_the_tuned_model_is(tiny_llama):
    """The last layer's inputs, scaled under way, are those of a fresh forward."""
    model = copy.deepcopy(tiny_llama)
    batches = [{"input_ids": torch.arange(40).view(1, 40) + i} for i in range(2)]
    wb.quantize(model, INT4)
    last = model.model.layers[1].mlp.down_proj
    seen = []
    original = Gptq.__call__

    class Watching(Gptq):
        name = "watching"

        def __call__(self, layer):
            seen.append(layer.inputs.parts[0].clone())
            original(self, layer)

    tune(model, batches, (Awq(), Watching()))
    fresh = []
    last.register_forward_pre_hook(lambda _, args: fresh.append(args[0]))
    with torch.no_grad():
        model(**batches[0])
    expected = fresh[0].reshape(-1, fresh[0].shape[-1]) * last.input_transform
    torch.testing.assert_close(seen[-1], expected, rtol=1e-4, atol=1e-5)


def test_patterns_choose(tiny_llama):
    model = copy.deepcopy(tiny_llama)
    wb.quantize(model, INT4)
    batches = [{"input_ids": torch.arange(40).view(1, 40)}]
    report = tune(model, batches, {"*.self_attn.*": ("mse", "gptq"), "*.gate_proj": "hqq"})
    chosen = {r.name.rpartition(".")[2]: r.algorithms for r in report}
    assert chosen == {
        **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), ("mse", "gptq")),
        "gate_proj": ("hqq",),
    }


def test_the_shared_float_model_is_unharmed(tiny_llama):
    from workbench.models.loaded import share

    before = {k: v.clone() for k, v in tiny_llama.state_dict().items()}
    model = share(tiny_llama)
    wb.quantize(model, INT4)
    tune(model, [{"input_ids": torch.arange(40).view(1, 40)}], ("awq", "gptq"))
    assert all(torch.equal(v, before[k]) for k, v in tiny_llama.state_dict().items())


class _Stopping:
    """Cancels a job after some layers."""

    def __init__(self, after):
        self.left = after

    def update(self, what, done, total):
        pass

    def check(self):
        self.left -= 1
        if self.left < 0:
            raise Cancelled


def test_a_cancel_half_way_leaves_the_model_as_it_was(tiny_llama):
    model = copy.deepcopy(tiny_llama)
    wb.quantize(model, INT4)
    ids = torch.arange(40).view(1, 40)
    with torch.no_grad():
        before = model(ids).logits
    threads = threading.active_count()
    with pytest.raises(Cancelled), reporting(_Stopping(after=5)):
        tune(model, [{"input_ids": ids}], ("awq", "gptq"))
    with torch.no_grad():
        assert torch.equal(model(ids).logits, before)
    assert threading.active_count() == threads


def test_few_tokens_are_told_and_without_damping_refused():
    torch.manual_seed(6)
    model, x = One(), correlated(6, count=20)
    _, report = made(INT4, "gptq", x, model)
    assert "20 calibration tokens for 32 input channels: give at least 32" in report[0].reason
    with pytest.raises(wb.WorkbenchError, match=r"linear: 20 .* 32 .*give at least 32 tokens"):
        made(INT4, Gptq(damping=0.0), x, model)


def test_a_singular_hessian_is_refused_and_damping_repairs_it():
    torch.manual_seed(7)
    model, x = One(), correlated(7)
    x[:, 1] = x[:, 0]
    with pytest.raises(wb.WorkbenchError, match=r"linear: .*singular.*larger damping"):
        made(INT4, Gptq(damping=0.0), x, model)
    made(INT4, Gptq(), x, model)


def test_dead_channels_do_no_harm_and_are_told():
    torch.manual_seed(8)
    model, x = One(), correlated(8)
    x[:, 3] = 0
    for algorithm in ("gptq", ("awq", "gptq")):
        tuned, report = made(INT4, algorithm, x, model)
        assert "1 of 32 input channels are always 0" in report[0].reason
        assert bool(tuned.linear._parameters["weight"].isfinite().all())
        error = (tuned.linear._parameters["weight"] - model.linear.weight)[:, 3].detach()
        assert (
            float(error.abs().max()) < 0.05
        )  # still the weight, for inputs that calibration lacked


def test_an_input_that_is_always_zero_leaves_the_weight_to_its_ranges():
    model = One()
    tuned, (told,) = made(INT4, ("awq", "gptq", "bias_correction"), torch.zeros(100, 32), model)
    nearest, _ = made(INT4, "clip", torch.zeros(100, 32), model)
    ours, theirs = (m.linear._parameters["weight"] for m in (tuned, nearest))
    assert bool(ours.isfinite().all())
    assert float((ours - model.linear.weight).abs().max()) < 0.05
    assert "32 of 32 input channels are always 0" in told.reason
    assert theirs is not None


@pytest.mark.parametrize(
    ("algorithms", "message"),
    [
        ("gpqt", "algorithm 'gpqt' is unknown; allowed: awq, .*gptq"),
        ({"*.attention.*": "gptq"}, r"pattern '\*\.attention\.\*' matches none"),
        ("hqq", "HqqOptimizer moves the zero point: set symmetric=False"),
    ],
)
def test_refusals(algorithms, message):
    model = One()
    wb.quantize(model, wb.QuantArgs())
    with pytest.raises(wb.WorkbenchError, match=message):
        tune(model, [{"x": torch.randn(50, 32)}], algorithms)


def test_nothing_to_tune_and_nothing_to_tune_on():
    model = One()
    with pytest.raises(wb.WorkbenchError, match="nothing to tune"):
        tune(model, [{"x": torch.randn(50, 32)}])
    wb.quantize(model, "int4")
    with pytest.raises(wb.WorkbenchError, match="no batches"):
        tune(model, [])


ARCHITECTURES = [
    "llama", "gpt2", "gemma3", "opt", "gpt_neox", "falcon", "bloom", "mixtral", "gpt_oss", "mamba",
    "bert", "deberta_v2", "t5", "bart", "vit", "clip", "convnext", "swin", "whisper", "wav2vec2",
    "torch_encoder",
]  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_streams(name):
    """Linears are tuned, others say why not, and the frozen model gives what the tuned one gave."""
    case = ZOO[name]
    batches, model = case.batches(3), case.model()
    wb.quantize(model, INT4.model_copy(update={"group_size": None}))
    report = tune(model, batches, "gptq")
    tuned = [r for r in report if r.algorithms == ("gptq",)]
    assert tuned
    assert all(r.reason for r in report if not r.algorithms)
    assert all(r.sqnr_db > 3 for r in tuned)
    plain = case.model()
    wb.quantize(plain, INT4.model_copy(update={"group_size": None}))
    for name in (r.name for r in report if not r.algorithms):
        ours, theirs = (m.get_submodule(name)._parameters for m in (model, plain))
        assert all(torch.equal(ours[k], theirs[k]) for k in ours if ours[k] is not None)
    wb.freeze(model)
    fresh = case.model()
    wb.requantize(fresh, model.state_dict(), wb.quantization_map(model))
