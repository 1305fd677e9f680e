"""QTensor: what stays quantized, that all operations see the dequantized values; compiling."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import workbench as wb

SCHEMES = {
    "int8": wb.QuantArgs(dtype="int8"),
    "int8-tensor": wb.QuantArgs(dtype="int8", granularity="tensor"),
    "int4-group": wb.QuantArgs(dtype="int4", granularity="group", group_size=4, symmetric=False),
    "int3": wb.QuantArgs(dtype="int3", symmetric=False),
    "float8": wb.QuantArgs(dtype="float8"),
}


def weight(scheme: str, rows: int = 6, columns: int = 8, seed: int = 0) -> wb.QTensor:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(columns, rows))
    wb.quantize(model, SCHEMES[scheme])
    wb.freeze(model)
    return model[0].weight


def experts(scheme: str, is_transposed: bool) -> wb.QTensor:
    class TinyExperts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Parameter(torch.randn(4, 8, 8))
            self.is_transposed = is_transposed

    model = nn.ModuleDict({"experts": TinyExperts()})
    wb.quantize(model, SCHEMES[scheme])
    wb.freeze(model)
    return model["experts"].proj


STAYS = {
    "t": lambda w: w.t(),
    "T": lambda w: w.T,
    "mT": lambda w: w.mT,
    "transpose": lambda w: w.transpose(0, 1),
    "transpose-negative": lambda w: w.transpose(-2, -1),
    "permute": lambda w: w.permute(1, 0),
    "permute-nothing": lambda w: w.permute(0, 1),
    "twice": lambda w: w.t().t(),
    "detach": lambda w: w.detach(),
    "clone": lambda w: w.clone(),
    "deepcopy": copy.deepcopy,
    "bfloat16": lambda w: w.to(torch.bfloat16),
    "half": lambda w: w.half(),
}
ROWS = {  # these stay quantized where each row has numbers of its own
    "slice": lambda w: w[1:4],
    "slice-step": lambda w: w[1:6:2],
    "slice-empty": lambda w: w[3:3],
    "list": lambda w: w[[2, 0]],
    "indices": lambda w: w[torch.tensor([5, 5, 1])],
    "mask": lambda w: w[torch.tensor([True, False] * 3)],
    "cat": lambda w: torch.cat([w, w]),
    "chunk": lambda w: w.chunk(2)[1],
    "split": lambda w: w.split(4)[1],
    "split by sizes": lambda w: w.split([1, 2, 3])[2],
    "narrow": lambda w: w.narrow(0, 1, 4),
}
FLOATS = {
    "columns of a split": lambda w: w.split(4, 1)[1],
    "split of transposed": lambda w: w.t().split(4)[1],
    "row": lambda w: w[2],
    "last row": lambda w: w[-1],
    "column": lambda w: w[:, 1],
    "columns": lambda w: w[:, 1:5],
    "rows of transposed": lambda w: w.t()[1:3],
    "cat of transposed": lambda w: torch.cat([w.t(), w.t()]),
    "cat of columns": lambda w: torch.cat([w, w], 1),
    "cat with float": lambda w: torch.cat([w, torch.ones(1, 8)]),
    "add": lambda w: w + 1,
    "matmul": lambda w: torch.ones(3, 6) @ w,
    "reshape": lambda w: w.reshape(4, 12),
    "unsqueeze": lambda w: w[None],
    "sum": lambda w: w.sum(0),
    "abs": lambda w: w.abs().max(),
    "linear": lambda w: nn.functional.linear(torch.ones(2, 8), w),
    "integers": lambda w: w.to(torch.int64),
    "stack": lambda w: torch.stack([w, w]),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", [*STAYS, *ROWS, *FLOATS])
def test_an_operation_sees_the_dequantized_values(scheme, name):
    w = weight(scheme)
    operation = (STAYS | ROWS | FLOATS)[name]
    found, expected = operation(w), operation(w.dequantize())
    stays = name in STAYS or (name in ROWS and scheme != "int8-tensor")
    assert isinstance(found, wb.QTensor) == stays
    values = found.dequantize() if stays else found
    assert found.shape == values.shape == expected.shape
    assert found.dtype == values.dtype == expected.dtype
    assert torch.equal(values, expected)


EXPERTS = {
    "one": lambda w: w[2],
    "one transposed": lambda w: w[2].t(),
    "last": lambda w: w[-1],
    "some": lambda w: w[1:3],
    "chosen": lambda w: w[torch.tensor([3, 0, 3])],
    "pairs": lambda w: w[torch.tensor([[3, 0], [1, 1]])],
    "swapped": lambda w: w.transpose(1, 2),
    "batched": lambda w: torch.bmm(torch.ones(4, 2, 8), w),
    "row of one": lambda w: w[1][2],
    "cat": lambda w: torch.cat([w, w[:1]]),
}


@pytest.mark.parametrize("is_transposed", [False, True], ids=["out-in", "in-out"])
@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s != "int8-tensor"])
@pytest.mark.parametrize("name", EXPERTS)
def test_experts_are_indexed_without_dequantizing_all(scheme, name, is_transposed):
    w = experts(scheme, is_transposed)
    found, expected = EXPERTS[name](w), EXPERTS[name](w.dequantize())
    if name in ("one", "one transposed", "last", "some", "chosen"):
        assert isinstance(found, wb.QTensor)
    values = found.dequantize() if isinstance(found, wb.QTensor) else found
    assert found.shape == expected.shape
    assert torch.equal(values, expected)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_moving_to_another_device_keeps_shape_and_type(scheme):
    w = weight(scheme)
    assert w.to("cpu").device.type == "cpu"
    moved = w.t().to("meta")
    assert (moved.is_meta, moved.shape, moved.dtype) == (True, (8, 6), torch.float32)
    assert isinstance(moved, wb.QTensor)
    assert moved.dequantize().is_meta


def test_a_clone_is_a_copy_and_a_view_is_not():
    w = weight("int8")
    clone, view, before = w.clone(), w.detach(), w.dequantize()
    w.data_.zero_()
    assert torch.equal(clone.dequantize(), before)
    assert not torch.equal(view.dequantize(), before)


def test_pickling_is_refused_and_the_alternative_named():
    for write in (pickle.dumps, lambda w: torch.save(w, "/dev/null")):
        with pytest.raises(TypeError, match=r"workbench\.save"):
            write(weight("int4-group"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gradients_pass_to_the_other_operand(scheme):
    w = weight(scheme)
    found, expected = (torch.randn(2, 8, requires_grad=True) for _ in range(2))
    (found @ w.t()).square().sum().backward()
    expected.data = found.data.clone()
    (expected @ w.dequantize().t()).square().sum().backward()
    torch.testing.assert_close(found.grad, expected.grad)


TOKEN = wb.QuantArgs(granularity="token", dynamic=True)
COMPILED = {
    "int8": ("int8", None),
    "int4": ("int4", None),
    "int3": ("int3", None),
    "float8": ("float8", None),
    "w8a8-token": ("int8", TOKEN),
    "w8a8-tensor": ("int8", wb.QuantArgs(granularity="tensor", dynamic=True)),
    "w8a8-static": ("int8", "int8"),
    "fp8-static": ("float8", "float8"),
}


@pytest.mark.parametrize("scheme", COMPILED)
def test_a_model_compiles_without_a_break(scheme):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 8)), torch.randn(5, 64)
    wb.quantize(model, *COMPILED[scheme])
    with torch.no_grad(), wb.Calibration(model):
        model(x)
    wb.freeze(model)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(x), model(x))
        assert torch.equal(compiled(x[:2]), model(x[:2])), "another batch size"
    x.requires_grad_()
    (found,) = torch.autograd.grad(compiled(x).sum(), x)
    (expected,) = torch.autograd.grad(model(x).sum(), x)
    torch.testing.assert_close(found, expected)


class Mixed(nn.Module):
    """An embedding, a convolution, a norm and a linear, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.conv = nn.Embedding(11, 32), nn.Conv1d(32, 32, 3, padding=1)
        self.norm, self.linear = nn.LayerNorm(32), nn.Linear(32, 8)

    def forward(self, ids: Tensor) -> Tensor:
        return self.linear(self.norm(self.conv(self.embedding(ids).mT).mT))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scheme", COMPILED)
def test_every_kind_of_module_compiles(scheme, dtype):
    torch.manual_seed(0)
    model, ids = Mixed().to(dtype), torch.randint(0, 11, (2, 9))
    weights, activations = COMPILED[scheme]
    wb.quantize(model, weights, activations, include="*", outputs=activations)
    with torch.no_grad(), wb.Calibration(model):
        model(ids)
    wb.freeze(model)
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(ids), model(ids))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["int8", "int4", "w8a8-token"])
def test_inductor_computes_the_same(scheme):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 8)), torch.randn(5, 64)
    wb.quantize(model, *COMPILED[scheme])
    wb.freeze(model)
    torch._dynamo.reset()
    with torch.no_grad():
        found, expected = torch.compile(model, fullgraph=True)(x), model(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def grad_of(model: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    model(x).square().sum().backward()
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("scheme", COMPILED)
def test_gradients_through_frozen_layers_are_those_of_the_dequantized(scheme):
    """Straight through the rounding of inputs, so to the noise of that rounding."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 8)), torch.randn(5, 64)
    wb.quantize(model, *COMPILED[scheme])
    with torch.no_grad(), wb.Calibration(model):
        model(x)
    wb.freeze(model)
    plain = copy.deepcopy(model)
    wb.dequantize(plain)
    found, expected = grad_of(model, x), grad_of(plain, x)
    noise = {None: 1e-5}.get(COMPILED[scheme][1], 0.05)
    assert (found - expected).norm() < noise * expected.norm()
