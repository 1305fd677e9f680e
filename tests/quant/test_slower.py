"""Layers that are slower quantized than in float: kept, or left in float and stored so."""

import copy
import time
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

import workbench as wb
from workbench import ops
from workbench.ops import linear, registry
from workbench.quant import QLinear, QuantArgs, TransformedLinear, slower, why_in_float
from workbench.recipe import Plan, Recipe

TOKEN = QuantArgs(granularity="token", dynamic=True)
SECONDS = 0.02  # that the slow op sleeps: far longer than these layers take, also on a busy machine


def _snail(given: linear.Arguments) -> torch.Tensor:
    time.sleep(SECONDS)
    return linear.a8_reference(given)


def _hare(given: linear.Arguments) -> torch.Tensor:
    return given.x.new_zeros((*given.x.shape[:-1], given.rows))


@pytest.fixture(scope="module")
def registered() -> tuple[ops.Implementation, ...]:
    return tuple(
        registry._register(linear, "a8_linear", f"a8_linear_{name}", function, f"a {name}")
        for name, function in (("snail", _snail), ("hare", _hare))
    )


@pytest.fixture
def animals(registered, monkeypatch) -> Iterator[None]:
    """One op that is slow and one that is fast, to be pinned."""
    for module in (ops, ops.choose):
        monkeypatch.setattr(module, "implementations", (*ops.implementations, *registered))
    monkeypatch.setattr(slower, "_verdicts", {})


def model(features: int = 24) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(features, 40), nn.GELU(), nn.Linear(40, 8, bias=False))


def test_a_slow_layer_is_left_in_float(animals):
    before, made = model(), model()
    wb.quantize(made, weights="int8", activations=TOKEN)
    assert wb.freeze(made, op="a8_linear_snail", slower="float") == []
    x = torch.randn(5, 24)
    assert torch.equal(made(x), before(x))
    assert [type(m) for m in made] == [nn.Linear, nn.GELU, nn.Linear]


def test_a_fast_layer_is_quantized_as_ever(animals):
    made = nn.Sequential(nn.Linear(512, 512))  # large enough to take float a while
    wb.quantize(made, weights="int8", activations=TOKEN)
    assert wb.freeze(made, op="a8_linear_hare", slower="float") == ["0"]
    assert isinstance(made[0], QLinear)
    assert made[0].op == "a8_linear_hare"
    assert why_in_float(made[0]) is None


def test_slow_layers_are_kept_unless_asked(animals):
    made = model()
    wb.quantize(made, weights="int8", activations=TOKEN)
    assert wb.freeze(made, op="a8_linear_snail") == ["0", "2"]
    assert not slower._verdicts, "and nothing is measured"
    assert made[0].op == "a8_linear_snail"


def test_the_plan_and_the_coverage_say_so_with_both_times(animals):
    made = model()
    wb.quantize(made, weights="int8", activations=TOKEN)
    wb.freeze(made, op="a8_linear_snail", slower="float")
    first, second = Plan.resolve(Recipe(), made, None).layers
    for layer in (first, second):
        assert (layer.scheme, layer.bits) == ("float", 32)
        assert layer.bytes == layer.float_bytes
        for part in ("slower quantized", "a8_linear_snail ", "float32 linear ", "1 and 128 tokens"):
            assert part in layer.op_reason
    found = wb.coverage(made)
    assert found.share == 0
    assert found.exceptions == {"0.weight": first.op_reason, "2.weight": second.op_reason}


def test_a_checkpoint_holds_it_in_float_and_gives_the_same_bits_anywhere(
    tiny_llama, tmp_path, monkeypatch
):
    made = copy.deepcopy(tiny_llama)
    wb.quantize(made, weights="int8", activations=TOKEN, include="*.mlp.*")
    slow = lambda module: (module.in_features == 48, "as the test says")  # noqa: E731
    monkeypatch.setattr(slower, "against_float", slow)
    frozen = wb.freeze(made, slower="float")
    assert sorted({name.rpartition(".")[2] for name in frozen}) == ["gate_proj", "up_proj"]
    ids = torch.arange(20).view(2, 10)
    with torch.no_grad():
        expected = made(input_ids=ids).logits
        wb.save(made, tmp_path / "out")
        loaded = wb.load(str(tmp_path / "out")).model
        assert torch.equal(loaded(input_ids=ids).logits, expected)
    down = loaded.model.layers[0].mlp.down_proj
    assert type(down) is nn.Linear
    assert torch.equal(down.weight, tiny_llama.model.layers[0].mlp.down_proj.weight)
    assert isinstance(loaded.model.layers[0].mlp.up_proj, QLinear)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_input_slot_goes_into_the_weight(animals, dtype):
    plain = model().to(dtype)
    scales = torch.rand(24) + 0.5
    smoothed = nn.Sequential(
        TransformedLinear.from_linear(
            plain[0], (plain[0].weight * scales).to(dtype), scales.reciprocal()
        )
    )
    wb.quantize(smoothed, weights="int8", activations=TOKEN)
    wb.freeze(smoothed, op="a8_linear_snail", slower="float")
    assert type(smoothed[0]) is nn.Linear
    assert smoothed.state_dict().keys() == {"0.weight", "0.bias"}
    rounding = 2 * torch.finfo(dtype).eps  # of a product and a quotient
    torch.testing.assert_close(smoothed[0].weight, plain[0].weight, rtol=rounding, atol=0)
    assert (str(dtype).removeprefix("torch.") + " linear") in (why_in_float(smoothed[0]) or "")


def test_layers_of_gpt2_too_and_the_plan_lists_them(animals):
    made = nn.Sequential(Conv1D(40, 24))
    before = made[0].weight.detach().clone()
    wb.quantize(made, weights="int8", activations=TOKEN)
    wb.freeze(made, op="a8_linear_snail", slower="float")
    assert type(made[0]) is Conv1D
    assert torch.equal(made[0].weight, before)
    (layer,) = Plan.resolve(Recipe(), made, None).layers
    assert (layer.kind, layer.scheme) == ("Conv1D", "float")


def test_quantized_again_and_back_the_old_reason_is_gone(animals):
    made = model()
    wb.quantize(made, weights="int8", activations=TOKEN)
    wb.freeze(made, op="a8_linear_snail", slower="float")
    assert why_in_float(made[0])
    wb.quantize(made, weights="int8", activations=TOKEN)
    wb.dequantize(made)
    assert why_in_float(made[0]) is None


def test_scales_that_training_learned_go_with_the_integers(animals):
    made = model()
    keys = made.state_dict().keys()
    wb.quantize(made, weights="int8", activations=TOKEN)
    assert made[0].learn_scales()
    wb.freeze(made, op="a8_linear_snail", slower="float")
    assert made.state_dict().keys() == keys


def test_each_shape_is_measured_once(animals, monkeypatch):
    calls = []
    measured = ops.choose.measured
    monkeypatch.setattr(
        ops.choose, "measured", lambda runs, *a: calls.append(list(runs)) or measured(runs, *a)
    )
    made = nn.Sequential(*(nn.Linear(16, 16) for _ in range(4)))
    wb.quantize(made, weights="int8", activations=TOKEN)
    wb.freeze(made, op="a8_linear_snail", slower="float")
    assert calls == [["a8_linear_snail", "float32 linear"]]


def test_a_bad_value_is_refused_and_nothing_is_changed():
    made = model()
    wb.quantize(made, weights="int8", activations=TOKEN)
    with pytest.raises(wb.WorkbenchError, match="slower='drop' is unknown; allowed: keep, float"):
        wb.freeze(made, slower="drop")
    assert not made[0].frozen
    with pytest.raises(wb.WorkbenchError, match=r"quantization\.slower is 'drop'.*'keep'.*'float'"):
        Recipe.from_json('{"quantization": {"slower": "drop"}}')


def test_a_recipe_says_it_in_code():
    recipe = Recipe().with_quantization(slower="float")
    assert "wb.freeze(model, slower='float')\n" in recipe.to_code()
    both = recipe.with_quantization(op="a8_linear_reference")
    assert "wb.freeze(model, op='a8_linear_reference', slower='float')\n" in both.to_code()
    assert "wb.freeze(model)\n" in Recipe().to_code()
