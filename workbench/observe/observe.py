"""One pass over calibration batches that measures the input of every matrix."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.graph import InputGroup, input_groups
from workbench.observe.sample import digest, keep_smallest, priorities
from workbench.observe.statistics import Entry, Statistics
from workbench.progress import track

EXAMPLE_TOKENS = 16


def observe(
    model: nn.Module, batches: Iterable[Mapping[str, Any]], *, sample_size: int = 256
) -> Statistics:
    """Run `batches` (mappings of keyword inputs) through `model`; measure what its linears read.

    Layers that read the same tensor share one entry. Positions that `attention_mask` marks as
    padding are left out. `sample_size` tokens are kept for each input. To share the work, observe
    parts of the batches in as many places and merge the results with `|`. Raises WorkbenchError
    without batches.
    """
    batches = list(batches)
    if not batches:
        raise WorkbenchError("no batches to observe: give at least one mapping of keyword inputs")
    was_training = model.training
    model.eval()
    try:
        example = small_example(model, batches)
        watch = _Watch(model, input_groups(model, {**batches[0], **example}), sample_size)
        with watch, torch.no_grad():
            for batch in track(batches, "observing activations"):
                watch.mask = batch.get("attention_mask")
                model(**batch)
    finally:
        model.train(was_training)
    return Statistics(watch.entries, example)


class _Watch:
    """Forward hooks on the watched readers of each group, folding what passes into entries."""

    def __init__(self, model: nn.Module, groups: list[InputGroup], sample_size: int) -> None:
        self.model = model
        self.groups = groups
        self.sample_size = sample_size
        self.entries: dict[str, Entry] = {}
        self.mask: Tensor | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for group in self.groups:
            columns = self._columns(group)

            def hook(
                _: nn.Module,
                args: tuple[Tensor, ...],
                kwargs: dict[str, Tensor],
                group: InputGroup = group,
                columns: Tensor = columns,
            ) -> None:
                entry = self._measure(
                    group, next(iter((*args, *kwargs.values()))).detach(), columns
                )
                seen = self.entries.get(group.name)
                self.entries[group.name] = entry if seen is None else seen | entry

            for name in group.watched:
                reader = self.model.get_submodule(name)
                self._handles.append(reader.register_forward_pre_hook(hook, with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _columns(self, group: InputGroup) -> Tensor:
        """The largest weight that each channel is multiplied by, float32 [K]."""
        maxima = []
        for matrix in group.matrices:
            weight = getattr(self.model.get_submodule(matrix.module), matrix.parameter)
            rows = weight.detach().movedim(matrix.axis, -1).flatten(0, -2)
            maxima.append(rows.abs().amax(0).float())
        return torch.stack(maxima).amax(0)

    def _measure(self, group: InputGroup, x: Tensor, columns: Tensor) -> Entry:
        rows = x.reshape(-1, x.shape[-1]).float()
        if self.mask is not None and x.shape[:-1] == self.mask.shape:
            rows = rows[self.mask.reshape(-1).bool()]
        sample, kept = keep_smallest(rows, priorities(rows), self.sample_size)
        return Entry(
            group=group,
            count=len(rows),
            absmax=rows.amax(0).maximum(-rows.amin(0)),
            total=_total(rows),
            squares=_total(rows.square()),
            weight_absmax=columns,
            sample=sample,
            sample_keys=kept,
            sample_size=self.sample_size,
        )


def _total(rows: Tensor) -> Tensor:
    """The sum over rows, float64 [K]."""
    # Sixty-four at a time in float32: the cast of every value would cost five times as much.
    whole = len(rows) // 64 * 64
    blocks = rows[:whole].unflatten(0, (-1, 64)).sum(1)
    return blocks.sum(0, dtype=torch.float64) + rows[whole:].sum(0, dtype=torch.float64)


def small_example(model: nn.Module, batches: list[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The head of one sequence, enough to try a fold on; the same however the batches are shared.

    Some models refuse a part of a sequence, or of a batch: they get the smallest they take.
    """
    for cut in (_head, _one):
        examples = [cut(batch) for batch in batches]
        which = min(range(len(batches)), key=lambda index: digest(examples[index]))
        if _runs(model, {**batches[which], **examples[which]}):
            return examples[which]
    return min(map(_whole, batches), key=digest)


def _tensors(batch: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    return ((name, value) for name, value in batch.items() if isinstance(value, Tensor))


def _whole(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in _tensors(batch)}


def _one(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    return {n: value[:1].clone() if value.dim() else value.clone() for n, value in _tensors(batch)}


def _head(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    one = _one(batch)
    return {n: v[:, :EXAMPLE_TOKENS].clone() if v.dim() == 2 else v for n, v in one.items()}


def _runs(model: nn.Module, batch: Mapping[str, Any]) -> bool:
    try:
        with torch.no_grad():
            model(**batch)
    except (RuntimeError, ValueError, IndexError, AssertionError):
        return False
    return True
