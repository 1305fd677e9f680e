"""Whom a layer may pass by: nobody who would see its op, and outputs are equal either way."""

from collections.abc import Callable
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from workbench.ops.watched import is_watched
from workbench.quant import QuantArgs, freeze, quantize

SCHEMES = {
    "W8A8": ("int8", QuantArgs(granularity="token", dynamic=True)),
    "W8": ("int8", None),
    "float8": ("float8", None),
}


@pytest.fixture(params=SCHEMES)
def layer(request) -> nn.Module:
    weights, activations = SCHEMES[request.param]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(33, 20)).requires_grad_(False)
    quantize(model, weights=weights, activations=activations)
    freeze(model)
    return model[0]


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 33, generator=torch.Generator().manual_seed(1))


def op_of(layer: nn.Module):
    return getattr(torch.ops.workbench, layer.op).default


def targets(*graphs: torch.fx.GraphModule) -> set[object]:
    return {node.target for graph in graphs for node in graph.graph.nodes}


@contextmanager
def passed_by(layer: nn.Module):
    """The calls that go to the function of the op directly."""
    function, calls = layer._function, []
    layer._function = lambda given: calls.append(given) or function(given)
    try:
        yield calls
    finally:
        layer._function = function


class Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.ops: list[object] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops.append(func)
        return func(*args, **(kwargs or {}))


class Heard(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.functions: list[object] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


def test_a_plain_call_passes_the_dispatcher_by_with_the_same_bits(layer, x):
    with passed_by(layer) as calls:
        found = layer(x)
        assert len(calls) == 1
        with Seen() as seen:
            watched = layer(x)
        assert len(calls) == 1
    assert op_of(layer) in seen.ops
    assert torch.equal(found, watched)


def test_modes_see_the_op(layer, x):
    expected = layer(x)
    with passed_by(layer) as calls, Heard() as heard:
        found = layer(x)
    assert not calls
    assert op_of(layer) in heard.functions
    assert torch.equal(found, expected)


def test_the_compiler_sees_the_op(layer, x):
    graphs = []

    def keep(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    with torch.no_grad():
        found = torch.compile(layer, backend=keep, fullgraph=True)(x)
    assert op_of(layer) in targets(*graphs)
    assert torch.equal(found, layer(x))


def test_tracing_and_export_see_the_op(layer, x):
    expected = layer(x)
    traced = make_fx(layer)(x)
    assert op_of(layer) in targets(traced)
    assert torch.equal(traced(x), expected)
    exported = torch.export.export(nn.Sequential(layer), (x,)).module()
    assert op_of(layer) in targets(exported)
    assert torch.equal(exported(x), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_older_tracer_sees_it_too(layer, x):
    traced = torch.jit.trace(layer, x)
    assert f"workbench::{layer.op}" in str(traced.graph)
    assert torch.equal(traced(x), layer(x))


def test_tensors_without_numbers_get_the_shape_from_the_op(layer):
    with passed_by(layer) as calls, FakeTensorMode(allow_non_fake_inputs=True):
        found = layer(torch.empty(2, 7, 33))
    assert not calls
    assert found.shape == (2, 7, 20)
    assert type(found).__name__ == "FakeTensor"


def test_the_profiler_counts_the_op(layer, x):
    expected = layer(x)
    with torch.profiler.profile() as profile:
        found = layer(x)
    assert f"workbench::{layer.op}" in {event.key for event in profile.key_averages()}
    assert torch.equal(found, expected)


@pytest.mark.parametrize("of", ["input", "bias"])
def test_what_is_differentiated_has_its_gradient(layer, x, of):
    expected = layer(x)
    leaf = x if of == "input" else layer.bias
    leaf.requires_grad_()
    with passed_by(layer) as calls:
        found = layer(x)
        assert not calls
        with torch.no_grad():
            assert torch.equal(layer(x), expected)
        assert len(calls) == 1, "without gradients nobody watches"
    assert torch.equal(found, expected)
    (grad,) = torch.autograd.grad(found.sum(), leaf)
    wanted = (
        layer.weight.dequantize().sum(0).expand_as(x) if of == "input" else torch.full((20,), 5.0)
    )
    torch.testing.assert_close(grad, wanted)


def test_transforms_of_functions_see_it(layer, x):
    found = torch.func.vmap(layer)(x.unsqueeze(0))
    assert torch.equal(found[0], layer(x))


def test_subclasses_of_tensors_are_seen(x):
    class Own(torch.Tensor):
        pass

    assert is_watched(x.as_subclass(Own))
    assert not is_watched(x)
