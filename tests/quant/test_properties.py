"""Random modules, shapes, dtypes and schemes: the whole way from quantize to a reloaded model."""

import copy
import json
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import workbench as wb
from workbench.quant import QModule
from workbench.quant.optimizers import Optimizer, default_optimizer

INTEGERS = ("int2", "int3", "int4", "int6", "int8")
FLOATS = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2")
SLACK = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}  # of one product's sums

Leaf = tuple[nn.Module, Callable[[int], Tensor]]  # and what draws it an input of so many rows


class Tree(nn.Module):
    """Leaves side by side, some of them nested, each with an input of its own."""

    def __init__(self, leaves: list[nn.Module], depth: list[int]) -> None:
        super().__init__()
        for index, (leaf, levels) in enumerate(zip(leaves, depth, strict=True)):
            for level in range(levels):
                leaf = nn.ModuleDict({f"in{level}": leaf})
            self.add_module(f"{type(leaf).__name__.lower()}{index}", leaf)
        self.norm = nn.LayerNorm(4)

    def leaves(self) -> list[nn.Module]:
        found = []
        for leaf in list(self.children())[:-1]:
            while isinstance(leaf, nn.ModuleDict):
                leaf = next(iter(leaf.values()))
            found.append(leaf)
        return found

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        return [leaf(x) for leaf, x in zip(self.leaves(), inputs, strict=True)]


@st.composite
def leaves(draw: Any, kinds: tuple[str, ...]) -> Leaf:
    kind = draw(st.sampled_from(kinds))
    size = st.integers(1, 9)
    if kind == "linear":
        columns, rows = draw(st.sampled_from([0, 1, 7, 32, 65, 96])), draw(st.integers(0, 9))
        return nn.Linear(columns, rows, bias=draw(st.booleans())), lambda n: torch.randn(n, columns)
    if kind == "embedding":
        many, width = draw(size), draw(st.sampled_from([1, 5, 32]))
        return nn.Embedding(many, width), lambda n: torch.randint(0, many, (n, 2))
    groups = draw(st.sampled_from([1, 2]))
    channels, out = groups * draw(size), groups * draw(size)
    kernel = draw(st.integers(1, 3))
    mode = draw(st.sampled_from(["zeros", "circular"]))
    rank = 1 if kind.endswith("1d") else 2
    if kind == "transpose1d":
        return nn.ConvTranspose1d(channels, out, kernel, groups=groups), lambda n: torch.randn(
            n, channels, 4
        )
    conv = (nn.Conv1d, nn.Conv2d)[rank - 1]
    module = conv(channels, out, kernel, groups=groups, padding=1, padding_mode=mode)
    return module, lambda n: torch.randn(n, channels, *[4] * rank)


@st.composite
def weight_schemes(draw: Any) -> wb.QuantArgs:
    dtype = draw(st.sampled_from(INTEGERS + FLOATS))
    return wb.QuantArgs(
        dtype=dtype,
        granularity=draw(st.sampled_from(["tensor", "channel", "group"])),
        symmetric=dtype in FLOATS or draw(st.booleans()),
    )


@st.composite
def activation_schemes(draw: Any) -> wb.QuantArgs | None:
    if draw(st.booleans()):
        return None
    dtype = draw(st.sampled_from(("int8", *FLOATS)))
    dynamic = draw(st.booleans())
    return wb.QuantArgs(
        dtype=dtype,
        granularity=draw(st.sampled_from(["tensor", "token"])) if dynamic else "tensor",
        dynamic=dynamic,
        symmetric=dtype in FLOATS or draw(st.booleans()),
        observer=draw(st.sampled_from(["max", "momentum", "percentile", "mse", "entropy"])),
    )


@st.composite
def trees(draw: Any) -> tuple[Tree, Callable[[int], list[Tensor]]]:
    kinds = ("linear", "conv1d", "conv2d", "transpose1d", "embedding")
    chosen = draw(st.lists(leaves(kinds), min_size=1, max_size=3))
    depth = draw(st.lists(st.integers(0, 2), min_size=len(chosen), max_size=len(chosen)))
    dtype = draw(st.sampled_from(list(SLACK)))
    model = Tree([module for module, _ in chosen], depth).to(dtype).eval()

    def inputs(rows: int) -> list[Tensor]:
        drawn = [draw_input(rows) for _, draw_input in chosen]
        return [x.to(dtype) if x.is_floating_point() else x for x in drawn]

    return model, inputs


@given(
    tree=trees(),
    weights=weight_schemes(),
    activations=activation_schemes(),
    rows=st.integers(0, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@torch.no_grad()
def test_a_reloaded_tree_computes_the_same_bits(tree, weights, activations, rows, seed):
    torch.manual_seed(seed)
    model, inputs = tree
    fresh = copy.deepcopy(model)
    if not any(leaf.weight.numel() for leaf in model.leaves()):
        with pytest.raises(wb.WorkbenchError, match="no module that can be quantized"):
            wb.quantize(model, weights, activations, include="*")
        return
    names = wb.quantize(model, weights, activations, include="*")
    assert len(names) == len([leaf for leaf in fresh.leaves() if leaf.weight.numel()])
    with wb.Calibration(model):
        for _ in range(2):
            model(inputs(2))
    wb.freeze(model)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    layout = json.loads(json.dumps(wb.quantization_map(model)))
    for parameter in fresh.parameters():
        parameter.zero_()
    wb.requantize(fresh, state, layout)
    x = inputs(rows)
    found = model(x)
    for one, other in zip(found, fresh(x), strict=True):
        assert one.isfinite().all()
        assert torch.equal(one, other)
    assert set(fresh.state_dict()) == set(state)

    if activations is None:  # the frozen layers are float ones with the dequantized weights
        dtype = model.norm.weight.dtype
        wb.dequantize(model)
        for one, other in zip(found, model(x), strict=True):
            assert (one - other).norm() <= SLACK[dtype] * other.norm()


@given(tree=trees(), weights=weight_schemes(), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@torch.no_grad()
def test_the_original_comes_back(tree, weights, seed):
    torch.manual_seed(seed)
    model, inputs = tree
    x = inputs(2)
    before = {name: (type(m), id(m)) for name, m in model.named_modules()}
    tensors = {name: (id(p), p.clone()) for name, p in model.named_parameters()}
    expected = model(x)
    assume(any(leaf.weight.numel() for leaf in model.leaves()))
    chosen = wb.quantize(model, weights, include="*")
    wb.dequantize(model)
    for name, module in model.named_modules():
        assert type(module) is before[name][0]
        assert name in chosen or id(module) == before[name][1]
    assert list(tensors) == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        assert id(parameter) == tensors[name][0]
        assert torch.equal(parameter, tensors[name][1])
    assert all(torch.equal(a, b) for a, b in zip(model(x), expected, strict=True))


patterns = st.sampled_from(["*", "a.*", "*.b", "a.b.*", "?.a", "[bc]*", "none", "a"])


@given(include=st.lists(patterns, max_size=2), exclude=st.lists(patterns, max_size=2))
@settings(max_examples=60, deadline=None)
def test_patterns_choose_and_all_else_stays(include, exclude):
    def branch(depth: int) -> nn.Module:
        if not depth:
            return nn.Linear(2, 2)
        return nn.ModuleDict({name: branch(depth - 1) for name in "abc"})

    model = nn.ModuleDict({"a": branch(2), "b": branch(1), "c": branch(0)})
    objects = {name: id(module) for name, module in model.named_modules()}
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    wanted = [
        name
        for name in linears
        if any(fnmatch(name, p) for p in include or ["*"])
        and not any(fnmatch(name, p) for p in exclude)
    ]
    if not wanted:
        with pytest.raises(wb.WorkbenchError, match=rf"leave none of the {len(linears)}"):
            wb.quantize(model, include=include or None, exclude=exclude)
    else:
        assert wb.quantize(model, include=include or None, exclude=exclude) == wanted
    changed = {n for n, m in model.named_modules() if id(m) != objects[n]}
    assert changed == set(wanted)
    assert {n for n, m in model.named_modules() if isinstance(m, QModule)} == set(wanted)


@given(
    columns=st.sampled_from([1, 7, 32, 65, 256]),
    rows=st.integers(1, 9),
    weights=weight_schemes(),
    spread=st.floats(1e-4, 1e4),
    shift=st.floats(-1, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_the_error_is_at_most_half_a_step(columns, rows, weights, spread, shift, seed):
    """Where all of the range is kept.

    Integers: a number inside the range is at most half a step from the nearest one; rounding the
    zero point moves the range by at most half a step, so an end is cut off by no more than that.
    Floats with m bits of mantissa: half a unit in the last place, 2^-(m+1) of the number, or of the
    smallest normal one.
    """
    torch.manual_seed(seed)
    linear = nn.Linear(columns, rows)
    linear.weight.data.normal_(shift * spread, spread)
    model = nn.Sequential(copy.deepcopy(linear))
    wb.quantize(model, weights, optimizer=wb.MaxOptimizer())
    wb.freeze(model)
    weight, scale = linear.weight.detach(), model[0].weight_scale
    if scale.dim() == 2:
        scale = scale.repeat_interleave(columns // scale.shape[1], 1)
    if weights.dtype in FLOATS:
        info = torch.finfo(getattr(torch, weights.dtype))
        bound = weight.abs().clamp_min(scale * info.smallest_normal) * info.eps / 2
    else:
        bound = scale / 2
    # float32 divides, adds the zero point and multiplies with a relative error of 2^-24 each.
    slack = 2**-20 * (weight.abs() + scale * 2**8)
    assert ((model[0].weight.dequantize() - weight).abs() <= bound + slack).all()


@given(weights=weight_schemes(), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_default_optimizer_errs_no_more_than_the_full_range(weights, seed):
    torch.manual_seed(seed)
    weight = torch.distributions.StudentT(4.0).sample((6, 64))

    def loss(optimizer: Optimizer) -> Tensor:
        model = nn.Sequential(nn.Linear(64, 6))
        model[0].weight.data = weight.clone()
        wb.quantize(model, weights, optimizer=optimizer)
        wb.freeze(model)
        error = model[0].weight.dequantize() - weight
        blocks = error.view(1 if weights.granularity == "tensor" else 6, -1)
        return (blocks.square().mean(1) + 2 * blocks.mean(1).square()).sum()

    assert loss(default_optimizer(weights)) <= loss(wb.MaxOptimizer()) * (1 + 1e-5)


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@pytest.mark.parametrize("columns", [1, 31, 64, 257])
def test_memory_is_what_the_bits_say(dtype, columns):
    """ceil(columns * bits / 32) words a row, and float32 numbers for each group."""
    rows, bits = 5, 8 if dtype in FLOATS else int(dtype.removeprefix("int"))
    model = nn.Sequential(nn.Linear(columns, rows, bias=False))
    wb.quantize(model, dtype)
    wb.freeze(model)
    held = {key: t.numel() * t.element_size() for key, t in model.state_dict().items()}
    data = held.pop("0.weight" if bits == 8 else "0.weight_packed")
    assert data == (rows * columns if bits == 8 else rows * 4 * -(-columns * bits // 32))
    groups = columns // model[0].weights.group_size if bits < 8 else 1
    numbers = 4 if bits == 8 else 4 + (1 if bits >= 4 else 4)  # a whole zero point takes a byte
    found = held.pop("0.weight_scale") + held.pop("0.weight_zero_point", 0)
    assert found == rows * groups * numbers
    held.pop("0.weight_shape", None)
    assert not held
    assert not list(model.parameters())


@pytest.mark.parametrize("weights", ["int4", "int8", "float8"])
@pytest.mark.parametrize("activations", [None, "int8", "float8"])
def test_a_frozen_model_keeps_its_numbers_as_it_moves(weights, activations):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(64, 32), nn.Conv1d(4, 4, 1)), torch.randn(4, 64)
    wb.quantize(model, weights, activations)
    with torch.no_grad(), wb.Calibration(model):
        model(x)
    wb.freeze(model)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    expected = model(x)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        moved = copy.deepcopy(model).to(dtype)
        for key, tensor in moved.state_dict().items():
            if key.endswith("bias"):
                assert tensor.dtype == dtype
            else:
                assert torch.equal(tensor.view(torch.uint8), before[key].view(torch.uint8)), key
        found = moved(x.to(dtype))
        assert found.dtype == dtype
        # Half types round inputs, biases and outputs; an input that is rounded to 8 bits afterwards
        # may so end a step apart, which is half of the noise of rounding it at all.
        apart = (found.double() - expected.double()).norm() / expected.norm()
        flips = {None: 0, "int8": 0.01, "float8": 0.05}[activations]
        assert apart <= 2 * torch.finfo(dtype).eps + (0 if dtype == x.dtype else flips)
    assert model.half()[0].weight.dtype == torch.float16
    assert model.to("meta")[0].weight.is_meta
