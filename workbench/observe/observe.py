"""One pass over calibration batches that measures the input of every matrix."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.graph import InputGroup, input_groups
from workbench.observe.hashes import digest
from workbench.observe.places import Places
from workbench.observe.seen import measured
from workbench.observe.statistics import Entry, Statistics
from workbench.observe.streams import STREAM_SAMPLE, Stream, Streams, Tap
from workbench.progress import track

EXAMPLE_TOKENS = 16


def observe(
    model: nn.Module, batches: Iterable[Mapping[str, Any]], *, sample_size: int = 256
) -> Statistics:
    """Run `batches` (mappings of keyword inputs) through `model`; measure what its linears read.

    Layers that read the same tensor share one entry; the residual stream, keys and values and the
    inputs of convolutions are measured beside. Positions that `attention_mask` marks as padding are
    left out. `sample_size` tokens are kept for each input, and those at which its loudest channels
    peak. To share the work, observe parts of the batches in as many places and merge the results
    with `|`. Raises WorkbenchError without batches.
    """
    batches = list(batches)
    if not batches:
        raise WorkbenchError("no batches to observe: give at least one mapping of keyword inputs")
    was_training = model.training
    model.eval()
    try:
        example = small_example(model, batches)
        small = {**batches[0], **example}
        streams = Streams(model, small)
        watch = _Watch(model, input_groups(model, small), streams, sample_size)
        with watch, _unread_head(model), torch.no_grad():
            for batch in track(batches, "observing activations"):
                watch.places = Places.of(batch)
                watch.streams.take_cache(model(**{**batch, **streams.options}), watch.pour)
    finally:
        model.train(was_training)
    return Statistics(watch.entries, example, watch.poured)


class _Watch:
    """Forward hooks on the watched readers of each group, folding what passes into entries."""

    def __init__(
        self, model: nn.Module, groups: list[InputGroup], streams: Streams, sample_size: int
    ) -> None:
        self.model = model
        self.groups = groups
        self.streams = streams
        self.sample_size = sample_size
        self.entries: dict[str, Entry] = {}
        self.poured: dict[str, Stream] = {}
        self.places: Places | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        self._opened.enter_context(self.streams.tapped(self.pour))
        for group in self.groups:
            columns = self._columns(group)

            def hook(
                _: nn.Module,
                args: tuple[Tensor, ...],
                kwargs: dict[str, Tensor],
                group: InputGroup = group,
                columns: Tensor = columns,
            ) -> None:
                x = next(iter((*args, *kwargs.values())))
                found = measured(x, self.places, self.sample_size)
                entry = Entry(group=group, weight_absmax=columns, **found)
                seen = self.entries.get(group.name)
                self.entries[group.name] = entry if seen is None else seen | entry

            for name in group.watched:
                reader = self.model.get_submodule(name)
                handle = reader.register_forward_pre_hook(hook, with_kwargs=True)
                self._opened.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def pour(self, tap: Tap, x: Tensor) -> None:
        """Fold what passed a tap into its stream."""
        seen = self.poured.get(tap.name)
        columns = self.streams.weight_absmax(tap) if seen is None else seen.weight_absmax
        found = measured(x, self.places, min(self.sample_size, STREAM_SAMPLE))
        stream = Stream(tap=tap, weight_absmax=columns, **found)
        self.poured[tap.name] = stream if seen is None else seen | stream

    def _columns(self, group: InputGroup) -> Tensor:
        """The largest weight that each channel is multiplied by, float32 [K]."""
        maxima = []
        for matrix in group.matrices:
            weight = getattr(self.model.get_submodule(matrix.module), matrix.parameter)
            rows = weight.detach().movedim(matrix.axis, -1).flatten(0, -2)
            maxima.append(rows.abs().amax(0).float())
        return torch.stack(maxima).amax(0)


@contextmanager
def _unread_head(model: nn.Module) -> Iterator[None]:
    """Leave out the product in the language model's head: its input is measured, no logit read.

    It is a fifth of the work, and of the memory all that a large vocabulary asks for.
    """
    find = getattr(model, "get_output_embeddings", None)
    head = find() if find is not None else None
    if type(head) is not nn.Linear or "forward" in vars(head):
        yield
        return

    def zeros(x: Tensor) -> Tensor:
        return x.new_zeros(()).expand(*x.shape[:-1], head.out_features)

    head.forward = zeros  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del head.forward


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
