"""One pass over calibration batches that measures the input of every linear."""

from collections.abc import Iterable, Mapping
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.graph import InputGroup, input_groups
from workbench.observe.sample import keep_smallest, priorities
from workbench.observe.statistics import Entry, Statistics
from workbench.progress import track

EXAMPLE_TOKENS = 64


def observe(
    model: nn.Module, batches: Iterable[Mapping[str, Any]], *, sample_size: int = 256
) -> Statistics:
    """Run `batches` (mappings of keyword inputs) through `model`; measure what its linears read.

    Linears that read the same tensor share one entry. Positions that `attention_mask` marks as
    padding are left out. `sample_size` tokens are kept for each input. Raises WorkbenchError
    without batches.
    """
    batches = list(batches)
    if not batches:
        raise WorkbenchError("no batches to observe: give at least one mapping of keyword inputs")
    was_training = model.training
    model.eval()
    try:
        groups = input_groups(model, batches[0])
        watch = _Watch(model, groups, sample_size)
        with watch, torch.no_grad():
            for batch in track(batches, "observing activations"):
                watch.mask = batch.get("attention_mask")
                model(**batch)
    finally:
        model.train(was_training)
    return Statistics(watch.entries, _example(batches[0]))


class _Watch:
    """Forward hooks on one linear of each group, folding what passes into entries."""

    def __init__(self, model: nn.Module, groups: list[InputGroup], sample_size: int) -> None:
        self.model = model
        self.groups = groups
        self.sample_size = sample_size
        self.entries: dict[str, Entry] = {}
        self.mask: Tensor | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for group in self.groups:
            linears = [cast(nn.Linear, self.model.get_submodule(name)) for name in group.linears]
            maxima = [linear.weight.detach().abs().amax(0).float() for linear in linears]
            columns = torch.stack(maxima).amax(0)

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

            self._handles.append(linears[0].register_forward_pre_hook(hook, with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _measure(self, group: InputGroup, x: Tensor, columns: Tensor) -> Entry:
        rows = x.reshape(-1, x.shape[-1]).float()
        if self.mask is not None and x.shape[:-1] == self.mask.shape:
            rows = rows[self.mask.reshape(-1).bool()]
        wide = rows.double()
        keys = priorities(rows)
        sample, kept = keep_smallest(rows, keys, self.sample_size)
        return Entry(
            group=group,
            count=len(rows),
            absmax=rows.abs().amax(0),
            total=wide.sum(0),
            squares=wide.square().sum(0),
            weight_absmax=columns,
            sample=sample,
            sample_keys=kept,
            sample_size=self.sample_size,
        )


def _example(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The head of the first sequence of `batch`: enough to prove that a fold changes nothing."""
    return {
        name: (value[:1, :EXAMPLE_TOKENS] if value.dim() == 2 else value[:1]).clone()
        for name, value in batch.items()
        if isinstance(value, Tensor)
    }
