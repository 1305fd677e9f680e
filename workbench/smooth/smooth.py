"""Smooth a model: scales folded into what makes an input where exact, in the slot elsewhere."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.graph import tied_modules
from workbench.graph.calls import deviation, run
from workbench.observe import Entry, Statistics
from workbench.progress import track
from workbench.quant import QModule, Transformed, transformed_class
from workbench.quant.modules import qmodule_for
from workbench.quant.quantize import check_finite
from workbench.smooth.alphas import alphas_of
from workbench.smooth.fold import Change, entry_scales, fold, transform

# Relative deviation of the float output that one fold may cause; rounding alone stays below.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}

How = Literal["fold", "slot", "skipped"]


@dataclass(frozen=True)
class SmoothedGroup:
    """What smoothing did to one input: folded it, put it in the slot or left it, and why.

    `linears` are the modules that read the input, routers and experts among them. The input is
    divided by `scales` [K]; `deviation` is how far the float output moved, relative to its largest
    value.
    """

    name: str
    linears: tuple[str, ...]
    how: How
    reason: str
    alpha: float
    scales: Tensor
    deviation: float


@dataclass(frozen=True)
class Smoothing:
    """The list of what was and was not smoothed.

    `left` has the weights that no group reads with, such as those behind the gate inside experts,
    by module and parameter, and why.
    """

    groups: list[SmoothedGroup]
    left: dict[str, str]

    def of(self, linear: str) -> SmoothedGroup | None:
        """The group that the linear of this name belongs to."""
        return next((g for g in self.groups if linear in g.linears), None)

    def reason(self, module: str) -> str:
        """Why what this module reads was smoothed or not, in all of its weights."""
        group = self.of(module)
        left = (why for weight, why in self.left.items() if weight.rpartition(".")[0] == module)
        return "; ".join([*([group.reason] if group else []), *left])


def smooth(
    model: nn.Module,
    statistics: Statistics,
    alpha: float | None = 0.5,
    *,
    overrides: Mapping[str, float | None] | None = None,
    exclude: Iterable[str] = ("lm_head",),
) -> Smoothing:
    """Smooth every observed input of `model`, whose float output stays the same.

    `alpha` holds for all inputs but those that a key of `overrides` names or matches (shell-style,
    over group and layer names), which get its value; None leaves an input alone. Each change is
    tried at once on the example batch of `statistics`: where the output moves by more than
    rounding, it is undone and reported, and a scale that cannot be folded goes into the slot.
    Parameters are replaced, never written to, so models that share them are unharmed. Raises
    WorkbenchError before anything changes: alpha outside 0..1, overrides that conflict or match
    nothing, unknown layers, weights not finite.
    """
    alphas = alphas_of(statistics, alpha, overrides or {})
    _check(model, statistics)
    readers = Counter(name for entry in statistics for name in entry.group.readers)
    shared = {name for name, inputs in readers.items() if inputs > 1} | tied_modules(model)
    was_training = model.training
    model.eval()  # dropout would make every fold look wrong
    excluded = tuple(exclude)
    groups = []
    try:
        trial = _Trial(model, statistics.example)
        for entry in track(statistics.entries.values(), "smoothing"):
            value, names = alphas[entry.name], entry.group.readers
            if value is None:
                groups.append(_skipped(entry, "no alpha is set for it"))
            elif any(fnmatch(n, p) for n in names for p in excluded):
                groups.append(_skipped(entry, "excluded"))
            elif shared.intersection(names):
                groups.append(_skipped(entry, entry.reason))
            else:
                groups.append(_smooth_group(trial, entry, value))
    finally:
        model.train(was_training)
    return Smoothing(groups, _left(model, statistics))


def _check(model: nn.Module, statistics: Statistics) -> None:
    """Raise WorkbenchError where `statistics` are not of this float model."""
    modules = dict(model.named_modules())
    for entry in statistics:
        maker = [entry.group.maker] if entry.group.maker else []
        for name in (*entry.group.readers, *maker):
            if name not in modules:
                raise WorkbenchError(
                    f"statistics name {name!r}, which this model lacks: observe it anew"
                )
        for name in entry.group.readers:
            if isinstance(modules[name], QModule | Transformed):
                kind = type(modules[name]).__name__
                raise WorkbenchError(
                    f"{name} is a {kind}; smooth a float model, once, before quantizing it"
                )
            check_finite(name, modules[name])


def _left(model: nn.Module, statistics: Statistics) -> dict[str, str]:
    """The weights of the readers that nothing was observed for, and why that does no harm."""
    read = {(m.module, m.parameter): None for entry in statistics for m in entry.group.matrices}
    left = {}
    for name in dict.fromkeys(module for module, _ in read):
        module = model.get_submodule(name)
        kind = qmodule_for(module)
        for parameter in kind.names_in(module) if kind else ():
            if (name, parameter) not in read:
                left[f"{name}.{parameter}"] = (
                    f"what {parameter} multiplies is made inside, and stays in float: "
                    "there is no rounding that a scale could help"
                )
    return left


class _Trial:
    """Runs the model on the example and tells how far its outputs moved."""

    def __init__(self, model: nn.Module, example: Mapping[str, Tensor]) -> None:
        self.model = model
        self.example = example
        with torch.no_grad():
            self.before = run(model, example)

    def deviation(self) -> float:
        """The largest difference relative to the largest value, over all outputs."""
        with torch.no_grad():
            return deviation(run(self.model, self.example), self.before)

    def holds(self, deviation: float) -> bool:
        """Whether rounding explains a deviation; NaN is never explained."""
        return deviation <= min(TOLERANCE[output.dtype] for output in self.before)


def _smooth_group(trial: _Trial, entry: Entry, alpha: float) -> SmoothedGroup:
    reason, names = entry.reason, entry.group.readers
    if entry.foldable:
        scales = entry_scales(entry, alpha, shared=True)
        change = Change(trial.model)
        fold(change, entry.group, scales)
        deviation = trial.deviation()
        if trial.holds(deviation):
            return SmoothedGroup(entry.name, names, "fold", reason, alpha, scales, deviation)
        change.undo()
        reason = f"folding moved the float output by {deviation:.1e}, so it was undone"
    slots = [n for n in entry.linears if transformed_class(trial.model.get_submodule(n))]
    if len(slots) < len(names):
        other = next(name for name in names if name not in slots)
        kind = type(trial.model.get_submodule(other)).__name__
        return _skipped(entry, f"{reason}; {other} is a {kind}, which has no input slot")
    scales = entry_scales(entry, alpha, shared=False)
    change = Change(trial.model)
    transform(change, slots, scales)
    deviation = trial.deviation()
    if not trial.holds(deviation):
        change.undo()
        return _skipped(entry, f"{reason}; the slot moved the float output by {deviation:.1e} too")
    return SmoothedGroup(entry.name, names, "slot", reason, alpha, scales, deviation)


def _skipped(entry: Entry, reason: str) -> SmoothedGroup:
    ones = torch.ones_like(entry.absmax)
    return SmoothedGroup(entry.name, entry.group.readers, "skipped", reason, 0.0, ones, 0.0)
