"""The arithmetic of quantized linear layers: all implementations of an op compute the same bits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import ops
from workbench.ops import native
from workbench.ops.digits import LARGEST, to_digits
from workbench.ops.weights import dequantize

run = torch.ops.workbench


def operands(rows: int, inner: int, outer: int, seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(rows, inner, generator=g),
        "data": torch.randint(-127, 128, (outer, inner), generator=g, dtype=torch.int8),
        "scale": torch.rand(outer, 1, generator=g) * 0.01 + 1e-3,
        "bias": torch.randn(outer, generator=g),
    }


def int_mm(o: dict[str, torch.Tensor], bias: bool = True, **more: torch.Tensor) -> torch.Tensor:
    rows, columns = o["data"].shape
    given = o["bias"] if bias else None
    return run.a8_linear_int_mm(
        o["x"], o["data"], o["scale"], None, 8, rows, columns, given, **more
    )


@given(
    rows=st.integers(0, 70),
    inner=st.integers(1, 130),
    outer=st.integers(1, 90),
    static=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_int_mm_equals_the_reference_bit_for_bit(rows, inner, outer, static, seed):
    o = operands(rows, inner, outer, seed)
    scale = torch.tensor([0.02]) if static else None
    multiplier = torch.rand(inner) * (50 if static else 2) + 0.1
    arguments = (o["x"], o["data"], o["scale"], None, 8, outer, inner, o["bias"], scale, multiplier)
    expected = run.a8_linear_reference(*arguments)
    assert torch.equal(run.a8_linear_int_mm(*arguments), expected)


def test_the_reference_is_the_formula_written_out_in_integers():
    o = operands(5, 33, 7)
    step = torch.tensor([0.05])
    q = (o["x"] * (1 / step)).round().clamp(-128, 127).to(torch.int64)
    total = (q @ o["data"].to(torch.int64).T).to(torch.float32)
    expected = total * o["scale"].view(-1) * step + o["bias"]
    arguments = (o["x"], o["data"], o["scale"], None, 8, 7, 33, o["bias"], step, 1 / step)
    assert torch.equal(run.a8_linear_reference(*arguments), expected)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_digits_make_up_the_number_and_hold_it_as_finely_as_they_say(count):
    x = torch.randn(20, 300) * torch.logspace(-20, 20, 20).view(-1, 1)
    digits, step = to_digits(x, None, None, count)
    assert all(digit.dtype == torch.int8 for digit in digits)
    whole = sum(d.double() * 256**i for i, d in enumerate(reversed(digits)))
    assert whole.abs().max() <= LARGEST[count]
    rounding = 0.5 + LARGEST[count] * 2**-22  # of x / step in float32, then to whole numbers
    assert ((whole * step.double() - x.double()).abs() <= rounding * step.double()).all()


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
def test_digits_are_as_good_as_floats(dtype, bound):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 256, generator=g).to(dtype)
    data = torch.randint(-8, 8, (40, 256), generator=g, dtype=torch.int8)
    scale, point = torch.rand(40, 2, generator=g), torch.randn(40, 2, generator=g)
    found = run.weight_only_linear_reference(x, data, scale, point, 4, 40, 256)
    exact = x.double() @ dequantize(data, scale, point, 4, 256).double().T
    assert (found.double() - exact).abs().max() < bound * exact.abs().max()


def test_extremes_do_not_saturate():
    inner = 4096
    x = torch.full((17, inner), -1e9)
    o = {
        "x": x,
        "data": torch.full((32, inner), -127, dtype=torch.int8),
        "scale": torch.ones(32, 1),
    }
    one = torch.ones(1)
    found = int_mm(o, bias=False, input_scale=one, multiplier=one)
    assert (found == 128 * 127 * inner).all()


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_bad_token_spoils_no_other(bad):
    o = operands(6, 40, 9)
    clean = int_mm(o)
    o["x"][2, 5] = bad
    found = int_mm(o)
    others = [0, 1, 3, 4, 5]
    assert torch.equal(found[others], clean[others])
    assert found[2].isnan().all()


def test_a_token_of_zeros_gives_the_bias():
    o = operands(3, 16, 4)
    o["x"][1] = 0
    assert torch.equal(int_mm(o)[1], o["bias"])


@pytest.mark.parametrize("shape", [(16,), (2, 3, 16), (4, 0, 16)])
def test_leading_dimensions_are_kept(shape):
    o = operands(1, 16, 5) | {"x": torch.randn(shape)}
    assert int_mm(o).shape == (*shape[:-1], 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_give_half_outputs(dtype):
    o = operands(9, 64, 32)
    x = o["x"].to(dtype)
    full = int_mm(o | {"x": x.float()}, bias=False)
    assert torch.equal(int_mm(o | {"x": x}, bias=False), full.to(dtype))


def test_an_op_can_be_traced():
    o = operands(4, 16, 8)
    compiled = torch.compile(
        lambda x: int_mm(o | {"x": x}) + 1, backend="aot_eager", fullgraph=True
    )
    assert torch.equal(compiled(o["x"]), int_mm(o) + 1)


@pytest.mark.parametrize("op", ["a8_linear", "weight_only_linear", "dequantized_linear"])
@pytest.mark.parametrize("layer", [ops.Layer(64, 64), ops.Layer(64, 60, 4, groups=5, affine=True)])
def test_something_computes_every_layer_and_the_choice_says_why(op, layer):
    chosen, reason = ops.select(op, "cpu", layer)
    assert chosen.op == op
    assert chosen.obstacle("cpu", layer) is None
    for other in ops.implementations:
        obstacle = other.obstacle("cpu", layer)
        assert other.op != op or obstacle is None or obstacle in reason


def test_the_choice_falls_on_the_faster_of_two_that_compute_the_same(monkeypatch):
    times = {"a8_linear_native": 2.0, "a8_linear_int_mm": 1.0}
    if native.status().problem:
        pytest.skip("one candidate only: no native kernels here")
    monkeypatch.setattr(
        "workbench.ops.choose.measured", lambda runs, *_: {name: [times[name]] * 2 for name in runs}
    )
    chosen, reason = ops.select("a8_linear", "cpu", ops.Layer(77, 33))
    assert chosen.name == "a8_linear_int_mm"
    assert "2.000" in reason
    assert "1.000" in reason


def test_an_op_that_is_not_there_is_refused():
    with pytest.raises(RuntimeError, match="no implementation of w3a3_linear"):
        ops.select("w3a3_linear", "cpu", ops.Layer(8, 8))
