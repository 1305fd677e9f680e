"""Take heads and feed-forward units out of a model: fewer numbers, not numbers set to zero."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from workbench.compress.gates import gated
from workbench.compress.importance import Importance, small
from workbench.compress.targets import Keep, Kept, Target, choose, named
from workbench.errors import WorkbenchError
from workbench.graph.calls import deviation, run
from workbench.graph.widths import Part, Width
from workbench.models.loaded import share
from workbench.ops.timing import milliseconds
from workbench.smooth.fold import Change

TOLERANCE = 1e-4  # of the largest output, between a masked model and the one without the masked
MOST_TRIALS = 64
RUNS = 7  # of a forward that is timed

Noted = tuple[str, str]  # class and attribute that note a width or a number of heads


@dataclass(frozen=True)
class Pruned:
    """What was taken out: units kept of each width, by reader, and numbers before and after.

    `milliseconds` are of a forward of the pruned model, measured anew, where a time was the target.
    """

    kept: Kept
    widths: tuple[Width, ...]
    parameters_before: int
    parameters: int
    deviation: float
    milliseconds: float | None

    def counts(self, part: Part) -> list[int]:
        """Units left in each layer."""
        return [len(self.kept[width.reader]) for width in self.widths if width.part == part]


@torch.no_grad()
def prune(
    model: nn.Module, importance: Importance, target: Target | Kept, batch: Mapping[str, Tensor]
) -> Pruned:
    """Remove the least important heads and units of `model`, down to `target`.

    A target may also be the units that stay, as the `kept` of an earlier result names them. Weights
    are replaced, never written to; whatever the modules note of their widths follows, and the
    config says the shapes, so that transformers builds the model again. The outputs for `batch`
    must be those of the model with the same units masked; a time is that of its forward. Raises
    WorkbenchError, with the model as it was, where they are not, or the target cannot be reached.
    """
    _check(model, importance)
    before = sum(p.numel() for p in model.parameters())
    was_training = model.training
    model.eval()

    def pruned_time(keep: Keep) -> float:
        trial = share(model)
        _narrow(trial, importance.widths, keep, small(batch))
        return _time(trial, batch)

    try:
        if isinstance(target, Target):
            keep = choose(model, importance, target, pruned_time)
        else:
            keep = named(importance, target)
        moved = _narrow(model, importance.widths, keep, small(batch))
        timed = isinstance(target, Target) and target.latency_ms is not None
        return Pruned(
            {name: tuple(units.tolist()) for name, units in keep.items()},
            importance.widths,
            before,
            sum(p.numel() for p in model.parameters()),
            moved,
            _time(model, batch) if timed else None,
        )
    finally:
        model.train(was_training)


def _time(model: nn.Module, batch: Mapping[str, Tensor]) -> float:
    """Milliseconds of a forward."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    device = next(model.parameters()).device
    return milliseconds({"forward": lambda: model(**inputs)}, RUNS, device)["forward"]


def _check(model: nn.Module, importance: Importance) -> None:
    """Raise WorkbenchError where the scores are of other widths than the model's."""
    modules = dict(model.named_modules())
    for width in importance.widths:
        linear = modules.get(width.reader)
        found = getattr(linear, "in_features", None)
        if not isinstance(linear, nn.Linear) or found != width.columns.numel():
            raise WorkbenchError(
                f"importance is of a model whose {width.reader} reads {width.columns.numel()} "
                f"channels, and here it {f'reads {found}' if found else 'is no linear'}: score "
                "this model"
            )


def _narrow(
    model: nn.Module,
    widths: Sequence[Width],
    keep: Keep,
    batch: Mapping[str, Tensor],
) -> float:
    """Remove what is not kept; which notes of widths must follow is found by trial."""
    from workbench.models.hf import shapes  # imports transformers' quantizers, which take long

    narrower = [width for width in widths if len(keep[width.reader]) < width.count]
    if not narrower:
        return 0.0
    gates = {w.reader: torch.zeros(w.count).index_fill(0, keep[w.reader], 1.0) for w in narrower}
    with gated(model, narrower, gates):
        expected = run(model, batch)
    change = Change(model)
    names: set[str] = set()
    for width in narrower:
        names.update(_slice(change, width, keep[width.reader]))
    notes = {width.reader: list(_notes(model, width, keep[width.reader])) for width in narrower}
    kinds = Counter((kind, name) for found in notes.values() for _, kind, name, _ in found)
    for left_out in _subsets(list(kinds)):
        trial = Change(model)
        said: dict[str, dict[str, int]] = {}
        for found in notes.values():
            for module, kind, name, value in found:
                if (kind, name) not in left_out:
                    trial.note(module, name, value)
                    said.setdefault(module, {})[name] = value
        try:
            moved = deviation(run(model, batch), expected)
        except (RuntimeError, ValueError, IndexError):
            moved = float("nan")
        if moved <= TOLERANCE:
            if hasattr(getattr(model, "config", None), "to_dict"):
                linears: Any = {name: model.get_submodule(name) for name in sorted(names)}
                shapes.note(model, linears, said)
            return moved
        trial.undo()
    change.undo()
    raise WorkbenchError(
        f"{type(model).__name__} counts its heads or units in a way that is not understood: "
        "without some its output is not that with them masked, so nothing was removed"
    )


def _slice(change: Change, width: Width, units: Tensor) -> Iterator[str]:
    """Cut the reader's columns and the makers' rows; yields the names of the linears."""
    parts = [(width.reader, 1, width.columns), *((m, 0, r) for m, r in width.rows.items())]
    for name, axis, channels in parts:
        kept = channels[units].flatten()
        linear = change.model.get_submodule(name)
        for parameter in ("weight", "bias") if axis == 0 else ("weight",):
            value = linear._parameters.get(parameter)
            if value is not None:
                kept = kept.to(value.device)
                change.parameter(name, parameter, value.index_select(axis, kept))
        change.note(name, "in_features" if axis else "out_features", len(kept))
        yield name


def _notes(model: nn.Module, width: Width, units: Tensor) -> Iterator[tuple[str, str, str, int]]:
    """Modules around a width, their class, and integers in them that equal one of its numbers."""
    share = len(units), width.count
    sizes = [width.columns.numel(), *(rows.numel() for rows in width.rows.values())]
    numbers = {size: size * share[0] // share[1] for size in sizes}
    if width.part == "heads":
        for heads in (width.heads, width.count):
            numbers[heads] = heads * share[0] // share[1]
    top = _common(width.reader, *width.rows)
    for name, module in model.get_submodule(top).named_modules(prefix=top):
        if isinstance(module, nn.Linear):
            continue
        for attribute, value in vars(module).items():
            if type(value) is int and value in numbers and value > 1:
                yield name, type(module).__name__, attribute, numbers[value]


def _common(*names: str) -> str:
    """The innermost module that holds all of these."""
    split = [name.split(".")[:-1] for name in names]
    shared: list[str] = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _subsets(notes: Sequence[Noted]) -> Iterable[frozenset[Noted]]:
    """Which notes to leave as they are: none, then one, then two ..."""
    found = (
        frozenset(some) for count in range(len(notes) + 1) for some in combinations(notes, count)
    )
    return (some for _, some in zip(range(MOST_TRIALS), found, strict=False))
