"""Every scheme on every architecture: error, independent truth, coverage, reload, recovery."""

import copy
import json
import math
from collections import defaultdict
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations
from zoo import ZOO, Case, Inputs

import workbench as wb
from workbench.quant import QModule

SCHEMES = {
    "int8": ("int8", None),
    "int4": ("int4", None),
    "static": ("int8", "int8"),
    "token": ("int8", wb.QuantArgs(granularity="token", dynamic=True)),
}
# Layers whose weights a model reads without calling them: their inputs cannot be quantized.
READ = {"mamba": ("conv1d", "dt_proj"), "mamba2": ("conv1d",)}
# Mamba-2 multiplies x, B and C, which all come from one projection: its noise enters three times.
FACTORS = {"mamba2": 3}


def flat(output: object) -> Iterator[Tensor]:
    """Every float tensor in the output of a model."""
    if isinstance(output, Tensor) and output.is_floating_point():
        yield output.flatten()
    elif isinstance(output, dict):
        for value in output.values():
            yield from flat(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from flat(value)


@torch.no_grad()
def run(model: nn.Module, inputs: Inputs) -> Tensor:
    output = model(**inputs)
    return torch.cat(list(flat(dict(output) if hasattr(output, "keys") else output))).double()


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30))


def width(x: Tensor, static: bool) -> Tensor:
    """The absmax that int8 activations spread over: of all of x, or of each row."""
    return x.abs().max() if static else x.abs().amax(-1, keepdim=True)


def rounded(x: Tensor, absmax: Tensor, static: bool) -> Tensor:
    """Round to int8 and back. `workbench.ops.w8a8` says when to multiply and when to divide."""
    step = absmax.clamp_min(1e-30) / 127
    q = x * (1 / step) if static else x / step
    return q.round().clamp(-128, 127) * step


@torch.no_grad()
def noise_of_rounding(model: nn.Module, names: set[str], scheme: str, batches: list[Inputs]):
    """The share of noise, power over power, that rounding adds to the output; and widths of inputs.

    Rounding to steps d adds noise d^2 / 12 to each number, independent of all others. A product
    passes on the relative noise of either factor; what nonlinearities and residuals do to it is
    left out, so the sum over all layers is one for layers in series.
    """
    weights, activations = SCHEMES[scheme]
    static = scheme == "static"
    total, widths = 0.0, defaultdict(lambda: torch.zeros(()))
    seen: dict[str, tuple[float, float]] = {}

    def watch(name: str):
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0]
            widths[name] = widths[name].maximum(width(x, True))
            noise = ((width(x, static) / 127) ** 2 / 12).expand_as(x).sum()
            before = seen.get(name, (0.0, 0.0))
            seen[name] = before[0] + float(noise), before[1] + float(x.square().sum())

        return hook

    for name in names:
        module = model.get_submodule(name)
        # torch's attention and experts hold several parameters; its biases are vectors.
        matrices = [p for p in module.parameters(recurse=False) if p.dim() > 1]
        if not matrices:  # weight norm
            matrices = [module.weight.detach()]
        flipped = type(module).__name__ == "Conv1D" or getattr(module, "is_transposed", False)
        noise, power = 0.0, 0.0
        for matrix in matrices:
            matrix = matrix.mT if flipped else matrix
            if matrix.dim() == 2 or not type(module).__name__.endswith("Experts"):
                matrix = matrix.flatten(1)
            if weights == "int4":
                size = next((s for s in (128, 96, 64, 32) if matrix.shape[-1] % s == 0), None)
                blocks = matrix.unflatten(-1, (-1, size or matrix.shape[-1]))
                low, high = blocks.amin(-1).clamp_max(0), blocks.amax(-1).clamp_min(0)
                step = (high - low) / 15
            else:
                step = matrix.abs().amax(-1) / 127
            noise += float((step**2 / 12).mean()) * matrix.numel()
            power += float(matrix.square().sum())
        total += noise / power
        if activations is not None and hasattr(module, "weight"):
            module.register_forward_pre_hook(watch(name))
    for batch in batches:
        run(model, batch)
    total += sum(noise / max(power, 1e-30) for noise, power in seen.values())
    return total, widths


def quantized(case: Case, name: str, scheme: str, batches: list[Inputs]) -> nn.Module:
    model = case.model()
    wb.quantize(model, *SCHEMES[scheme])
    with torch.no_grad(), wb.Calibration(model):
        for batch in batches:
            model(**batch)
    if scheme == "static" and name in READ:
        with pytest.raises(wb.WorkbenchError, match="reads the weight of") as error:
            wb.freeze(model)
        assert "no batch reached" not in str(error.value)
    return model


def modules_called(model: nn.Module, inputs: Inputs) -> list[tuple[str, Tensor, Tensor]]:
    """Name, input and output of every call of a quantized module that rounds its inputs."""
    calls: list[tuple[str, Tensor, Tensor]] = []
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, QModule) and module.activations is not None:

            def keep(_, args, output, name=name):
                calls.append((name, args[0].clone(), output.clone()))

            handles.append(module.register_forward_hook(keep))
    run(model, inputs)
    for handle in handles:
        handle.remove()
    return calls


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ZOO)
def test_architecture(name, scheme):
    case = ZOO[name]
    if name in ("unet", "unet_condition", "dit"):
        pytest.importorskip("diffusers")
    batches = case.batches(3)
    inputs = batches[0]
    model = quantized(case, name, scheme, batches)
    original = case.model()
    expected = run(original, inputs)

    # Unfrozen, the original is there still.
    recovered = copy.deepcopy(model)
    names = set(wb.dequantize(recovered))
    assert torch.equal(run(recovered, inputs), expected)
    kinds = {n: type(m) for n, m in recovered.named_modules()}
    before = {n: type_before_parametrizations(m) for n, m in original.named_modules()}
    assert kinds == {n: kind for n, kind in before.items() if n in kinds}

    missed = [n for n, m in model.named_modules() if isinstance(m, QModule) and not m.calibrated]
    assert {n.rpartition(".")[2] for n in missed} == set(READ.get(name, ()) if missed else ())
    unfrozen = run(model, inputs)
    wb.freeze(model, uncalibrated="float")
    found = run(model, inputs)

    # What training sees is what comes out, weights that are read included.
    if SCHEMES[scheme][1] is None:
        assert distance(unfrozen, found) < 1e-5

    # Coverage: what is left is listed, and little.
    covered = wb.coverage(model)
    assert covered.share >= 0.95, covered
    left = {n for n, p in model.named_parameters(remove_duplicate=False) if p.dim() > 1}
    assert set(covered.exceptions) == left
    assert all(covered.exceptions.values())

    # The error is what rounding gives.
    share, widths = noise_of_rounding(original, names, scheme, batches)
    cosine = float(nn.functional.cosine_similarity(found, expected, dim=0))
    # cos(y, y + n) = 1 - |n|^2 / (2 |y|^2) for noise n that has nothing to do with y.
    assert 0 < 1 - cosine < FACTORS.get(name, 1) * share / 2

    # The truth, on a float model whose weights are the dequantized ones.
    truth = copy.deepcopy(model)
    wb.dequantize(truth)
    assert not any(isinstance(m, QModule) for m in truth.modules())
    static = scheme == "static"
    for layer, x, y in modules_called(model, inputs):
        wide = widths[layer] if static else width(x, False)
        with torch.no_grad():
            should = truth.get_submodule(layer)(rounded(x, wide, static))
        assert distance(y, should) < 1e-5, layer
    layout = wb.quantization_map(model)
    for layer, entry in layout.items():
        if entry["activations"] is not None:

            def pre(_, args, layer=layer):
                wide = widths[layer] if static else width(args[0], False)
                return rounded(args[0], wide, static), *args[1:]

            truth.get_submodule(layer).register_forward_pre_hook(pre)
    apart = distance(run(truth, inputs), found)
    # Where a last bit tips a rounding over, the two part ways for good: seldom and little.
    assert apart < (1e-5 if SCHEMES[scheme][1] is None else 0.1 * math.sqrt(share))

    # Reload: the same bits, from tensors and JSON alone.
    fresh = case.model()
    for parameter in fresh.parameters():
        parameter.data.zero_()
    wb.requantize(fresh, model.state_dict(), json.loads(json.dumps(layout)))
    assert torch.equal(run(fresh, inputs), found)


class Routed(nn.Module):
    """Two experts of which one idles, and a projection that is read and never called."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.projection = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.experts[0](x) @ self.projection.weight


def test_idle_layers_and_layers_that_are_only_read_are_told_apart():
    model = Routed()
    wb.quantize(model, "int8", "int8")
    with wb.Calibration(model):
        model(torch.randn(2, 8))
    told = (
        r"2 of 3 layers.*no batch reached experts\.1: run.*"
        r"reads the weight of projection without calling"
    )
    with pytest.raises(wb.WorkbenchError, match=told):
        wb.freeze(model)
