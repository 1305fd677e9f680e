"""Calibration: what each observer makes of known data, and what reaches it."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import workbench as wb
from workbench.quant.observers import BINS, observers

HISTOGRAMS = ("percentile", "mse", "entropy")


def args(symmetric: bool = True, dtype: str = "int8") -> wb.QuantArgs:
    return wb.QuantArgs(dtype=dtype, granularity="tensor", symmetric=symmetric)


def watched(name: str, batches: list[Tensor], momentum: float = 0.9):
    observer = observers[name]()
    for batch in batches:
        observer.update(batch, momentum)
    return observer


def heavy_tailed(seed: int = 0, count: int = 20_000) -> Tensor:
    torch.manual_seed(seed)
    return torch.distributions.StudentT(3.0).sample((count,))


def error(x: Tensor, low: Tensor, high: Tensor, symmetric: bool) -> float:
    """Mean squared error of rounding x to int8 over [low, high], written out."""
    low, high = float(low), float(high)
    if symmetric:
        step = max(-low, high) / 127
        rounded = (x / step).round().clamp(-128, 127) * step
    else:
        low, high = min(low, 0.0), max(high, 0.0)
        step = (high - low) / 255
        zero = round(-128 - low / step)
        rounded = ((x / step + zero).round().clamp(-128, 127) - zero) * step
    return float((rounded - x).square().mean())


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "affine"])
@pytest.mark.parametrize("skew", [0.0, 2.0])
def test_mse_finds_the_least_error_on_heavy_tails(symmetric, skew):
    """Within 2 % of the least over ranges that shrink alike, as histogram and shares are steps."""
    x = heavy_tailed() + skew
    found = error(x, *watched("mse", [x]).range(args(symmetric)), symmetric)
    low, high = x.min(), x.max()
    if symmetric:
        low, high = -x.abs().max(), x.abs().max()
    losses = [error(x, low * s, high * s, symmetric) for s in torch.linspace(0.05, 1, 96)]
    assert found <= 1.02 * min(losses)
    assert found < 0.96 * losses[-1], "less than keeping all of it"


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "affine"])
@pytest.mark.parametrize("name", HISTOGRAMS)
def test_uniform_data_is_hardly_clipped(name, symmetric):
    """There is no tail, so a good range keeps at least 97 % of it."""
    torch.manual_seed(0)
    x = torch.rand(50_000) * 3 - 1
    low, high = watched(name, [x]).range(args(symmetric))
    assert 0.97 * 2 <= high <= 2 * (1 + 4 / BINS) + 1e-3
    assert -2 * (1 + 4 / BINS) - 1e-3 <= low <= 0.97 * -1


def test_percentile_cuts_off_the_share_it_says():
    x = heavy_tailed()
    low, high = watched("percentile", [x]).range(args())
    outside = ((x < low) | (x > high)).float().mean()
    bin_share = float((x.abs() > high - 4 * high / BINS).float().mean() - outside)
    assert abs(float(outside) - 1e-4) <= bin_share + 1e-4
    low, high = watched("percentile", [x + 5]).range(args(symmetric=False))
    assert float((x + 5 < low).float().mean()) <= 1e-4
    assert float((x + 5 > high).float().mean()) <= 1e-4
    assert high < (x + 5).max()


def test_entropy_ignores_a_lone_outlier():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(50_000), torch.tensor([100.0])])
    _, high = watched("entropy", [x]).range(args())
    assert 2 < high < 20


@given(order=st.permutations(range(6)), name=st.sampled_from([*HISTOGRAMS, "max"]))
@settings(max_examples=30, deadline=None)
def test_the_order_of_batches_does_not_matter(order, name):
    torch.manual_seed(0)
    batches = [torch.randn(200) * scale for scale in (1.0, 0.01, 30.0, 3.0, 0.5, 7.0)]
    expected = watched(name, batches).range(args())
    assert watched(name, [batches[i] for i in order]).range(args()) == expected
    assert watched(name, [torch.cat(batches)]).range(args()) == expected


def test_momentum_weighs_the_past_as_asked():
    batches = [torch.tensor([-1.0, peak]) for peak in (4.0, 8.0, 2.0)]
    low, high = watched("momentum", batches, momentum=0.25).range(args())
    assert low == -1
    assert float(high) == pytest.approx(0.25 * (0.25 * 4 + 0.75 * 8) + 0.75 * 2)


@pytest.mark.parametrize("name", observers)
@pytest.mark.parametrize("value", [0.0, 1e-30, -3.0, 1e30])
def test_constant_data_keeps_its_value(name, value):
    model = nn.Sequential(nn.Linear(2, 2))
    wb.quantize(model, "int8", args(symmetric=False).model_copy(update={"observer": name}))
    x = torch.full((2, 2), value)
    with torch.no_grad(), wb.Calibration(model):
        model(x)
    model[0].freeze()
    found = model[0].fake_quantize_activation(x)
    assert ((found - x).abs() <= 0.01 * x.abs()).all()


class Keywords(nn.Module):
    """Layers called by keyword, with tuples going in and coming out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Conv1d(2, 2, 1)

    def forward(self, pair: tuple[Tensor, Tensor], scale: float = 1.0) -> tuple[Tensor, dict]:
        one, two = pair
        return self.first(input=one * scale), {"second": self.second(input=two)}


def test_keyword_and_tuple_inputs_are_seen():
    model = Keywords()
    wb.quantize(model, "int8", "int8")
    pair = torch.randn(3, 4), torch.randn(1, 2, 5)
    with torch.no_grad(), wb.Calibration(model):
        model(pair=pair, scale=2.0)
    wb.freeze(model)
    for layer, x in ((model.first, pair[0] * 2), (model.second, pair[1])):
        assert float(layer.input_scale) == pytest.approx(float(x.abs().max()) / 127, rel=1e-6)


def test_several_passes_add_up():
    torch.manual_seed(0)
    once, twice = (nn.Sequential(nn.Linear(4, 4)) for _ in range(2))
    twice.load_state_dict(once.state_dict())
    batches = [torch.randn(8, 4) * scale for scale in (1, 5, 2)]
    for model in (once, twice):
        wb.quantize(model, "int8", "int8")
    with torch.no_grad():
        with wb.Calibration(once):
            for batch in batches:
                once(batch)
        calibration = wb.Calibration(twice)
        for batch in batches:
            with calibration:
                twice(batch)
    for model in (once, twice):
        wb.freeze(model)
    assert torch.equal(once[0].input_scale, twice[0].input_scale)
    assert torch.equal(once(batches[0]), twice(batches[0]))


def test_calibration_sees_float_activations_and_leaves_no_trace():
    """A layer behind a quantized one watches what it would get in float."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 4)), torch.randn(8, 4)
    plain = copy.deepcopy(model)
    wb.quantize(model, "int2", "int8")
    with torch.no_grad(), wb.Calibration(model):
        assert torch.equal(model(x), plain(x))
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    wb.freeze(model)
    expected = float(plain[0](x).detach().abs().max()) / 127
    assert float(model[1].input_scale) == pytest.approx(expected, rel=1e-6)
