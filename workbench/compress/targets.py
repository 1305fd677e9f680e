"""How much to prune: a share, a count, a number of parameters, or a time."""

from collections.abc import Callable
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from workbench.compress.importance import Importance
from workbench.errors import WorkbenchError
from workbench.graph.widths import Part, Width
from workbench.progress import track

STEPS = 64  # of the share kept, where a budget is to be met; a power of two, to be halved

Keep = dict[str, Tensor]  # by reader: the numbers of the units that stay, in order
Kept = dict[str, tuple[int, ...]]  # the same as plain numbers
PARTS: tuple[Part, ...] = ("heads", "units")


class Target(BaseModel):
    """What is to be left of heads and feed-forward units.

    `heads` and `units` are a share of them (a number with a point, up to 1.0) or, as an integer,
    how many a layer keeps in the mean. With `parameters` or `latency_ms` (of one forward, as
    measured here) the greatest share of both is found that stays within. With `even` each layer
    keeps as many; else the least important of the whole model go, but the best of each layer.
    Feed-forward units are kept in multiples of `multiple`, as kernels like them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    heads: float | int = Field(default=1.0, union_mode="smart")
    units: float | int = Field(default=1.0, union_mode="smart")
    parameters: int | None = Field(default=None, ge=1)
    latency_ms: float | None = Field(default=None, gt=0)
    even: bool = False
    multiple: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in ("heads", "units"):
            value = getattr(self, name)
            if value <= 0:
                raise ValueError(f"{name} of {value} would leave layers empty; keep more than none")
            if isinstance(value, float) and value > 1:
                raise ValueError(f"{name} is a share of {value}; allowed: up to 1.0, or an integer")
        if self.parameters is not None and self.latency_ms is not None:
            raise ValueError("parameters and latency_ms exclude each other: set one")
        return self


def choose(
    model: nn.Module,
    importance: Importance,
    target: Target,
    milliseconds: Callable[[Keep], float],
) -> Keep:
    """The units that stay; `milliseconds` measures a forward of the model with those alone.

    Raises WorkbenchError where the target leaves a layer empty or cannot be reached.
    """
    if target.parameters is not None:
        whole = sum(p.numel() for p in model.parameters())

        def left(keep: Keep) -> float:
            return whole - _removed(model, importance, keep)

        return _within(importance, target, target.parameters, left, "parameters")
    if target.latency_ms is not None:
        return _within(importance, target, target.latency_ms, milliseconds, "ms")
    keep: Keep = {}
    for part in PARTS:
        keep |= _best(importance, part, getattr(target, part), target)
    return keep


def named(importance: Importance, kept: Kept) -> Keep:
    """The units that `kept` names; raises WorkbenchError where the model has no such units."""
    counts = {width.reader: width.count for width in importance.widths}
    for name in sorted(counts.keys() ^ kept.keys()):
        raise WorkbenchError(
            f"{name} is {'among the units to keep, but no' if name in kept else 'not named as a'} "
            "part of this model that is pruned: take the units kept of a model built like it"
        )
    for name, units in kept.items():
        if not units or sorted(set(units) & set(range(counts[name]))) != list(units):
            raise WorkbenchError(
                f"{name} has units 0 to {counts[name] - 1}; name at least one of them, in order"
            )
    return {name: torch.tensor(units) for name, units in kept.items()}


def _within(
    importance: Importance,
    target: Target,
    budget: float,
    cost: Callable[[Keep], float],
    unit: str,
) -> Keep:
    """Bisect for the greatest share whose cost is within the budget."""

    def at(step: int) -> Keep:
        keep: Keep = {}
        for part in PARTS:
            keep |= _best(importance, part, step / STEPS, target, least=True)
        return keep

    low, high = 1, STEPS
    least = cost(at(low))
    if least > budget:
        raise WorkbenchError(
            f"{budget:,.6g} {unit} cannot be reached by pruning: with 1/{STEPS} of all heads and "
            f"units it is still {least:,.6g}; start from fewer layers"
        )
    for _ in track(range(STEPS.bit_length() - 1), f"the most within {budget:,.6g} {unit}"):
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(at(middle)) <= budget else (low, middle - 1)
    return at(low)


def _removed(model: nn.Module, importance: Importance, keep: Keep) -> int:
    """The parameters that go with the units that do not stay."""
    total = 0
    for width in importance.widths:
        reader = model.get_submodule(width.reader)
        each = width.columns.shape[1] * len(reader._parameters["weight"])  # type: ignore[arg-type]
        for maker, rows in width.rows.items():
            held = model.get_submodule(maker)._parameters
            each += rows.shape[1] * sum(p[0].numel() for p in held.values() if p is not None)
        total += each * (width.count - len(keep[width.reader]))
    return total


def _best(
    importance: Importance, part: Part, wanted: float, target: Target, least: bool = False
) -> Keep:
    """The most important units, `wanted` as in Target; at least one a layer with `least`."""
    widths = [width for width in importance.widths if width.part == part]
    scores = importance.normalised()
    counts = {w.reader: _count(w, wanted, least) for w in widths}
    if not target.even:
        counts = _by_rank(widths, scores, sum(counts.values()))
    multiple = target.multiple if part == "units" else 1
    keep = {}
    for width in widths:
        count = min(width.count, -(-counts[width.reader] // multiple) * multiple)
        keep[width.reader] = scores[width.reader].topk(count).indices.sort().values
    return keep


def _count(width: Width, wanted: float, least: bool) -> int:
    """How many units of a layer are wanted."""
    shared = width.heads // width.count
    heads = "heads" if shared == 1 else f"groups of {shared} heads that share their keys"
    name = heads if width.part == "heads" else "feed-forward units"
    count = wanted if isinstance(wanted, int) else round(wanted * width.count)
    if count > width.count:
        raise WorkbenchError(
            f"{width.reader} has {width.count} {name}, of which {count} cannot stay"
        )
    if count < 1 and not least:
        raise WorkbenchError(
            f"{wanted:g} of {width.count} {name} would leave {width.reader} empty; keep at least "
            f"{1 / width.count:.3g}"
        )
    return max(1, count)


def _by_rank(widths: list[Width], scores: dict[str, Tensor], total: int) -> dict[str, int]:
    """How many units each layer keeps of the `total` best: at least its own best one."""
    counts = {width.reader: 1 for width in widths}
    if not widths:
        return counts
    rest = [(name, scores[name].sort(descending=True).values[1:]) for name in counts]
    owners = [name for name, values in rest for _ in values]
    ranked = torch.cat([values for _, values in rest]).argsort(descending=True, stable=True)
    for place in ranked[: max(0, total - len(counts))].tolist():
        counts[owners[place]] += 1
    return counts
