"""The implementations of the W8A8 linear against exact arithmetic and against each other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import ops
from workbench.ops import w8a8


def operands(rows: int, inner: int, outer: int, seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(rows, inner, generator=g),
        "weight": torch.randint(-127, 128, (outer, inner), generator=g, dtype=torch.int8),
        "weight_scale": torch.rand(outer, 1, generator=g) * 0.01 + 1e-3,
        "bias": torch.randn(outer, generator=g),
    }


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
    arguments = (o["x"], o["weight"], o["weight_scale"], o["bias"], scale, multiplier)
    expected = torch.ops.workbench.w8a8_linear_reference(*arguments)
    assert torch.equal(torch.ops.workbench.w8a8_linear_int_mm(*arguments), expected)


def test_the_reference_is_the_formula_written_out_in_integers():
    o = operands(5, 33, 7)
    scale = torch.tensor([0.05])
    q = (o["x"] * (1 / scale)).round().clamp(-128, 127).to(torch.int64)
    total = (q @ o["weight"].to(torch.int64).T).to(torch.float32)
    expected = total * scale * o["weight_scale"].view(-1) + o["bias"]
    found = w8a8.reference(o["x"], o["weight"], o["weight_scale"], o["bias"], scale, 1 / scale)
    assert torch.equal(found, expected)


def test_extremes_do_not_saturate():
    inner = 4096
    x = torch.full((17, inner), -1e9)
    weight = torch.full((32, inner), -127, dtype=torch.int8)
    one = torch.ones(1)
    found = torch.ops.workbench.w8a8_linear_int_mm(x, weight, torch.ones(32, 1), None, one, one)
    assert (found == 128 * 127 * inner).all()


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_bad_token_spoils_no_other(bad):
    o = operands(6, 40, 9)
    clean = torch.ops.workbench.w8a8_linear_int_mm(o["x"], o["weight"], o["weight_scale"])
    o["x"][2, 5] = bad
    found = torch.ops.workbench.w8a8_linear_int_mm(o["x"], o["weight"], o["weight_scale"])
    others = [0, 1, 3, 4, 5]
    assert torch.equal(found[others], clean[others])
    assert not torch.isfinite(found[2]).all()


def test_a_token_of_zeros_gives_the_bias():
    o = operands(3, 16, 4)
    o["x"][1] = 0
    found = torch.ops.workbench.w8a8_linear_int_mm(
        o["x"], o["weight"], o["weight_scale"], o["bias"]
    )
    assert torch.equal(found[1], o["bias"])


@pytest.mark.parametrize("shape", [(16,), (2, 3, 16), (4, 0, 16)])
def test_leading_dimensions_are_kept(shape):
    o = operands(1, 16, 5)
    found = torch.ops.workbench.w8a8_linear_int_mm(
        torch.randn(shape), o["weight"], o["weight_scale"]
    )
    assert found.shape == (*shape[:-1], 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_give_half_outputs(dtype):
    o = operands(9, 64, 32)
    x = o["x"].to(dtype)
    found = torch.ops.workbench.w8a8_linear_int_mm(x, o["weight"], o["weight_scale"])
    full = torch.ops.workbench.w8a8_linear_int_mm(x.float(), o["weight"], o["weight_scale"])
    assert torch.equal(found, full.to(dtype))


def test_an_op_can_be_traced():
    o = operands(4, 16, 8)
    compiled = torch.compile(
        lambda x: torch.ops.workbench.w8a8_linear_int_mm(x, o["weight"], o["weight_scale"]) + 1,
        backend="aot_eager",
        fullgraph=True,
    )
    expected = torch.ops.workbench.w8a8_linear_int_mm(o["x"], o["weight"], o["weight_scale"]) + 1
    assert torch.equal(compiled(o["x"]), expected)


@pytest.mark.parametrize("op", ["w8a8_linear", "weight_only_linear"])
def test_the_choice_is_the_first_that_can_run(op):
    names = [one.name for one in ops.implementations if one.op == op]
    available = [name for name, can, _ in ops.report("cpu") if can and name in names]
    chosen, reason = ops.select(op, "cpu")
    assert (chosen.op, chosen.name) == (op, available[0])
    assert chosen.what in reason
    assert available[-1] == names[-1], "the last resort of each op runs everywhere"


def test_an_op_that_is_not_there_is_refused():
    with pytest.raises(RuntimeError, match="no implementation of w3a3_linear"):
        ops.select("w3a3_linear", "cpu")
