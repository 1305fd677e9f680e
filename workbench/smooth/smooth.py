"""Apply smoothing scales to a model: folded into norms where exact, in the input slot elsewhere."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.graph import tied_modules
from workbench.observe import Entry, Statistics
from workbench.progress import track
from workbench.quant import TransformedLinear
from workbench.quant.quantize import check_finite
from workbench.smooth.scales import smoothing_scales

# Relative deviation of the float output that one fold may cause; rounding alone stays below.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}

How = Literal["fold", "slot", "skipped"]


@dataclass(frozen=True)
class SmoothedGroup:
    """What smoothing did to one input: folded it, put it in the slot or left it, and why."""

    name: str
    linears: tuple[str, ...]
    how: How
    reason: str
    alpha: float
    scales: Tensor
    deviation: float


@dataclass(frozen=True)
class Smoothing:
    """The list of what was and was not smoothed."""

    groups: list[SmoothedGroup]

    def of(self, linear: str) -> SmoothedGroup | None:
        """The group that the linear of this name belongs to."""
        return next((g for g in self.groups if linear in g.linears), None)


def check_alpha(alpha: float) -> float:
    """Return `alpha` if it is a number in 0..1; raise WorkbenchError otherwise."""
    if not isinstance(alpha, int | float) or math.isnan(alpha) or not 0 <= alpha <= 1:
        raise WorkbenchError(
            f"alpha is {alpha!r}; it must be a number from 0 (all difficulty stays in the "
            "activations) to 1 (all of it moves into the weights)"
        )
    return float(alpha)


def smooth(
    model: nn.Module,
    statistics: Statistics,
    alpha: float | Mapping[str, float] = 0.5,
    *,
    exclude: Iterable[str] = ("lm_head",),
) -> Smoothing:
    """Smooth every observed input of `model`, whose float output stays the same.

    `alpha` is one number or a mapping from shell-style patterns over group or linear names to
    numbers (first match wins, no match leaves the group alone). Each fold is tried on the example
    batch of `statistics`; where the output moves by more than rounding, it is undone, put into the
    slot and reported. Parameters are replaced, never written to, so models that share them are
    unharmed. Raises WorkbenchError before anything changes: alpha outside 0..1, unknown layers,
    weights not finite.
    """
    chooser = _chooser(alpha)
    modules = dict(model.named_modules())
    for entry in statistics:
        for name in (*entry.linears, *([entry.norm] if entry.norm else [])):
            if name not in modules:
                raise WorkbenchError(
                    f"statistics name {name!r}, which this model lacks: observe it anew"
                )
        for name in entry.linears:
            if type(modules[name]) is not nn.Linear:
                kind = type(modules[name]).__name__
                raise WorkbenchError(
                    f"{name} is a {kind}; smooth a float model, before quantizing it"
                )
            check_finite(name, modules[name])
    readers = Counter(name for entry in statistics for name in entry.linears)
    shared = {name for name, inputs in readers.items() if inputs > 1} | tied_modules(model)
    was_training = model.training
    model.eval()  # dropout would make every fold look wrong
    try:
        before = _output(model, statistics.example)
        excluded = tuple(exclude)
        groups = []
        for entry in track(statistics.entries.values(), "smoothing"):
            value = chooser(entry)
            if value is None:
                groups.append(_skipped(entry, "no alpha is set for it"))
            elif any(fnmatch(n, p) for n in entry.linears for p in excluded):
                groups.append(_skipped(entry, "excluded"))
            elif shared.intersection(entry.linears):
                groups.append(_skipped(entry, entry.reason))
            else:
                example = statistics.example
                groups.append(_smooth_group(model, entry, value, example, before))
    finally:
        model.train(was_training)
    return Smoothing(groups)


def _skipped(entry: Entry, reason: str) -> SmoothedGroup:
    ones = torch.ones_like(entry.absmax)
    return SmoothedGroup(entry.name, entry.linears, "skipped", reason, 0.0, ones, 0.0)


def _smooth_group(
    model: nn.Module, entry: Entry, alpha: float, example: Mapping[str, Tensor], before: Tensor
) -> SmoothedGroup:
    scales = smoothing_scales(entry.absmax, entry.weight_absmax, alpha)
    reason = entry.reason
    if entry.foldable:
        undo = _fold(model, entry, scales)
        deviation = _deviation(before, _output(model, example))
        if deviation <= TOLERANCE[before.dtype]:
            return SmoothedGroup(
                entry.name, entry.linears, "fold", reason, alpha, scales, deviation
            )
        undo()
        reason = f"folding moved the float output by {deviation:.1e}, so it was undone"
    for name in entry.linears:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        weight = (linear.weight.detach() * scales).to(linear.weight.dtype)
        transform = scales.reciprocal()
        model.set_submodule(name, TransformedLinear.from_linear(linear, weight, transform))
    deviation = _deviation(before, _output(model, example))
    return SmoothedGroup(entry.name, entry.linears, "slot", reason, alpha, scales, deviation)


def _fold(model: nn.Module, entry: Entry, scales: Tensor) -> Callable[[], None]:
    """Divide the norm's gain and bias by `scales` and multiply the columns; return the undoing."""
    assert entry.norm is not None
    norm = model.get_submodule(entry.norm)
    replaced: list[tuple[nn.Module, str, nn.Parameter]] = []

    def put(module: nn.Module, name: str, value: Tensor) -> None:
        old = getattr(module, name)
        replaced.append((module, name, old))
        setattr(module, name, nn.Parameter(value.to(old.dtype), requires_grad=old.requires_grad))

    offset = entry.group.offset
    gain, bias = norm.weight, getattr(norm, "bias", None)
    assert isinstance(gain, Tensor)
    put(norm, "weight", (offset + gain.detach()) / scales - offset)
    if bias is not None:
        put(norm, "bias", bias.detach() / scales)
    for name in entry.linears:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        put(linear, "weight", linear.weight.detach() * scales)

    def undo() -> None:
        for module, name, old in replaced:
            setattr(module, name, old)

    return undo


def _output(model: nn.Module, example: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        outputs: Any = model(**example)
    if isinstance(outputs, Mapping):
        outputs = next(iter(outputs.values()))
    first = outputs[0] if isinstance(outputs, tuple | list) else outputs
    assert isinstance(first, Tensor)
    return first


def _deviation(before: Tensor, after: Tensor) -> float:
    """Largest difference relative to the largest value."""
    return ((after - before).abs().max() / before.abs().max().clamp_min(1e-12)).item()


def _chooser(alpha: float | Mapping[str, float]) -> Callable[[Entry], float | None]:
    """Turn `alpha` into a function from an entry to its alpha; every value is checked first."""
    if not isinstance(alpha, Mapping):
        value = check_alpha(alpha)
        return lambda _: value
    checked = {pattern: check_alpha(value) for pattern, value in alpha.items()}

    def choose(entry: Entry) -> float | None:
        names = (entry.name, *entry.linears)
        return next(
            (v for p, v in checked.items() if any(fnmatch(name, p) for name in names)), None
        )

    return choose
