"""Search one alpha for each input by the measured error of what reads it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import reduce
from operator import or_
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.graph.calls import output_leaves
from workbench.observe import Entry, Statistics, observe
from workbench.progress import track
from workbench.quant.args import ArgsLike, QuantArgs, activation_args, weight_args
from workbench.smooth.alphas import check_alpha, matches
from workbench.smooth.fold import Change, entry_scales
from workbench.smooth.rounded import oriented, rounded
from workbench.smooth.verdict import Judge, Verdict

ALPHAS = tuple(step / 10 for step in range(11))
PARTS = 4


@dataclass(frozen=True)
class AlphaSearch:
    """The sweep over alphas for each input (with the layers that read it), and what was chosen.

    `linear_error` and `block_error` are float64 [inputs, alphas]: the squared error of what the
    linears, and the block around them, put out, each channel's over its mean square, mean over all
    calibration tokens; NaN where an input lies in no block. `candidates` has the damage to the
    whole model of what was in the final round. `chosen` has an alpha for each input; `verdict` is
    None without held-out batches.
    """

    readers: dict[str, tuple[str, ...]]
    alphas: tuple[float, ...]
    linear_error: Tensor
    block_error: Tensor
    candidates: dict[str, float]
    chosen: dict[str, float]
    verdict: Verdict | None

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs, in order of execution: the rows of the sweep."""
        return tuple(self.readers)

    def with_overrides(self, overrides: Mapping[str, float | None]) -> dict[str, float | None]:
        """The overrides for `workbench.smooth`: the chosen alphas where `overrides` say nothing."""
        kept = {
            name: alpha
            for name, alpha in self.chosen.items()
            if not any(matches(name, self.readers[name], pattern) for pattern in overrides)
        }
        return {**kept, **overrides}


def search_alpha(
    model: nn.Module,
    statistics: Statistics,
    batches: Iterable[Mapping[str, Any]],
    *,
    weights: ArgsLike = "int8",
    activations: ArgsLike = "int8",
    alphas: Sequence[float] = ALPHAS,
    by: Literal["model", "block", "linear"] = "model",
    exclude: Iterable[str] = ("lm_head",),
    held_out: Iterable[Mapping[str, Any]] | None = None,
) -> AlphaSearch:
    """Try each of `alphas` on each input of the float `model`, alone; choose the best for each.

    Behind each block that a batch passes, the layers of one input at a time are rounded as
    `weights` and `activations` say, and the block runs again, so memory is one block's. Scales and
    ranges come from other batches than the one that is measured, where there are several: alphas
    near 1 make every channel reach the end of its range, which what comes later then leaves.

    `by` "linear" or "block" gives each input the alpha of least error there. By default the whole
    model decides between those two, each single alpha, and what lies half-way, again on other
    batches than those that calibrate. With `held_out` batches the choice is compared with every
    single alpha on data that the search did not see. The model stays as it was. Raises
    WorkbenchError for alphas outside 0..1, no batches, or nothing to search.
    """
    numbers = weight_args(weights), activation_args(activations)
    values = tuple(check_alpha(alpha) for alpha in alphas)
    batches, excluded = list(batches), tuple(exclude)
    entries = [
        entry
        for entry in statistics
        if entry.linears and not any(fnmatch(n, p) for n in entry.linears for p in excluded)
    ]
    if not batches or not values or not entries:
        missing = "batches" if not batches else "alphas" if not values else "inputs to smooth"
        raise WorkbenchError(f"there are no {missing} to search with: give at least one")
    was_training = model.training
    model.eval()
    try:
        known = _without_each_part(model, statistics, batches)
        with _Sweep(model, entries, values, *numbers) as sweep, torch.no_grad():
            for index, batch in enumerate(track(batches, "searching alphas")):
                others = known[index % len(known)]
                sweep.entries = [others[entry.name] for entry in entries]
                sweep.mask = batch.get("attention_mask")
                model(**batch)
    finally:
        model.train(was_training)
    errors = {kind: sweep.sums[kind] / sweep.counts[kind] for kind in _KINDS}
    nearest = errors["block"].where(errors["block"].isfinite(), errors["linear"])
    names = tuple(entry.name for entry in entries)
    least = {
        kind: dict(zip(names, (values[i] for i in found.argmin(1).tolist()), strict=True))
        for kind, found in (("linear", errors["linear"]), ("block", nearest))
    }
    candidates: dict[str, float] = {}
    chosen = least.get(by, {})
    if by == "model":
        unseen = batches[:: len(known)]
        seen = [b for i, b in enumerate(batches) if i % len(known) or len(known) == 1]
        judge = Judge(model, known[0], seen, unseen, *numbers, excluded)
        candidates, chosen = _final_round(judge, least, values)
    verdict = None
    if held_out is not None:
        judge = Judge(model, statistics, batches, list(held_out), *numbers, excluded)
        verdict = judge.verdict(chosen, values)
    readers = {entry.name: entry.group.readers for entry in entries}
    linear, block = (errors[kind] for kind in _KINDS)
    return AlphaSearch(readers, values, linear, block, candidates, chosen, verdict)


def _final_round(
    judge: Judge, least: Mapping[str, dict[str, float]], alphas: Sequence[float]
) -> tuple[dict[str, float], dict[str, float]]:
    """The damage of each candidate to the whole model, and the alphas of the least harmful."""
    single = {alpha: dict.fromkeys(least["block"], alpha) for alpha in alphas}
    damage = {
        alpha: judge.damage(None, chosen)
        for alpha, chosen in track(list(single.items()), "judging single alphas")
    }
    best = min(alphas, key=damage.__getitem__)
    # Errors of single inputs are noisy, and blind to what other inputs do: half of them may do.
    mixed = {
        f"half-way from {best:g} to {kind}": {
            n: round((best + own) / 2, 6) for n, own in found.items()
        }
        for kind, found in least.items()
    }
    rest = {**least, **mixed}
    candidates = {f"{alpha:g}": found for alpha, found in damage.items()} | {
        label: judge.damage(None, chosen)
        for label, chosen in track(list(rest.items()), "judging searched alphas")
    }
    label = min(candidates, key=candidates.__getitem__)
    return candidates, rest.get(label, single[best])


def _without_each_part(
    model: nn.Module, statistics: Statistics, batches: Sequence[Mapping[str, Any]]
) -> list[Statistics]:
    """Deal `batches` out to a few parts; return for each the statistics of all others."""
    count = min(len(batches), PARTS)
    if count < 2:
        return [statistics]
    parts = [observe(model, batches[start::count]) for start in range(count)]
    return [reduce(or_, parts[:k] + parts[k + 1 :]) for k in range(count)]


_KINDS = ("linear", "block")


class _Sweep:
    """Hooks that run each block again with the layers of one input rounded, for each alpha."""

    def __init__(
        self,
        model: nn.Module,
        entries: Sequence[Entry],
        alphas: Sequence[float],
        weights: QuantArgs | None,
        activations: QuantArgs | None,
    ) -> None:
        self.model = model
        self.entries = entries
        self.alphas = alphas
        self.numbers = weights, activations
        self.mask: Tensor | None = None
        shape = len(entries), len(alphas)
        self.sums = {kind: torch.zeros(shape, dtype=torch.float64) for kind in _KINDS}
        self.counts = {kind: torch.zeros(shape, dtype=torch.float64) for kind in _KINDS}
        self._inputs: dict[str, Tensor] = {}
        self._again = False
        self._handles: list[Any] = []
        self._cached: list[Any] = []

    def __enter__(self) -> Self:
        members: dict[str, list[int]] = {}
        for index, entry in enumerate(self.entries):
            members.setdefault(_block_of(self.model, entry.linears), []).append(index)
            for linear in entry.linears:
                hook = self._keeping(linear)
                module = self.model.get_submodule(linear)
                self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        for name, inside in members.items():
            block = self.model.get_submodule(name)
            hook = self._sweeping(inside, is_block=name != "")
            self._handles.append(block.register_forward_hook(hook, with_kwargs=True))
        # A block that ran again would add to a cache again.
        configs = {id(c): c for m in self.model.modules() if (c := getattr(m, "config", None))}
        self._cached = [c for c in configs.values() if getattr(c, "use_cache", False)]
        for config in self._cached:
            config.use_cache = False
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        for config in self._cached:
            config.use_cache = True

    def _keeping(self, linear: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            if not self._again:
                self._inputs[linear] = next(iter((*args, *kwargs.values())))

        return hook

    def _sweeping(self, inside: list[int], *, is_block: bool) -> Callable[..., None]:
        def hook(block: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            if self._again:
                return
            self._again = True
            try:
                for index in inside:
                    if not all(n in self._inputs for n in self.entries[index].linears):
                        continue  # this batch does not pass here
                    before = output_leaves(output)[0] if is_block else None
                    self._try(index, before, lambda: output_leaves(block(*args, **kwargs))[0])
            finally:
                self._again = False
                for index in inside:
                    for linear in self.entries[index].linears:
                        self._inputs.pop(linear, None)

        return hook

    def _try(self, index: int, before: Tensor | None, again: Callable[[], Tensor]) -> None:
        """Round the layers of one input with each alpha; `before` is the block's float output."""
        entry, inputs = self.entries[index], self._inputs
        linears = {name: oriented(self.model.get_submodule(name)) for name in entry.linears}
        outputs = {name: linear(inputs[name]) for name, linear in linears.items()}
        for turn, alpha in enumerate(self.alphas):
            scales = entry_scales(entry, alpha, shared=entry.foldable)
            change = Change(self.model)
            try:
                for name, linear in linears.items():
                    made = rounded(linear, name, entry, scales, *self.numbers)
                    self._add("linear", index, turn, outputs[name], made(inputs[name]))
                    change.module(name, made)
                if before is not None:
                    self._add("block", index, turn, before, again())
            finally:
                change.undo()

    def _add(self, kind: str, index: int, turn: int, expected: Tensor, found: Tensor) -> None:
        if self.mask is not None and expected.shape[:-1] == self.mask.shape:
            expected, found = expected[self.mask.bool()], found[self.mask.bool()]
        errors = relative_errors(expected, found)
        self.sums[kind][index, turn] += errors.sum().item()
        self.counts[kind][index, turn] += errors.numel()


def relative_errors(expected: Tensor, found: Tensor) -> Tensor:
    """Mean over channels of squared error over mean square, for tokens [..., K]: float64 [tokens].

    Without that weight a few channels with huge values, as trained models have, would decide alone,
    while the gains of the norms that follow make up for small ones.
    """
    expected, found = expected.flatten(0, -2).double(), found.flatten(0, -2).double()
    signal = expected.square().mean(0).clamp_min(1e-12)
    return ((found - expected).square() / signal).mean(-1)


def _block_of(model: nn.Module, linears: Sequence[str]) -> str:
    """The outermost member of a list of modules that holds all of `linears`; "" where none does."""
    for prefix, module in model.named_modules():
        if isinstance(module, nn.ModuleList):
            for key, _ in module.named_children():
                name = f"{prefix}.{key}." if prefix else f"{key}."
                if all(linear.startswith(name) for linear in linears):
                    return name[:-1]
    return ""
