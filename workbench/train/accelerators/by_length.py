"""Batches of about one length, so that little of them is padding."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.utils.data import Sampler

from workbench.train.accelerators.base import Accelerator
from workbench.train.lengths import (
    BATCHES_SORTED,
    batches_by_length,
    lengths_of,
    lengths_vary,
    pads_to_the_longest,
)


class LengthSampler(Sampler[int]):
    """A shuffle by `seed` and pass in which the rows of an optimizer step have about one length.

    The longest batch comes first, so that memory runs out at the start or never.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        step: int,
        seed: int,
        epoch: Callable[[], int],
        together: int = BATCHES_SORTED,
    ) -> None:
        self.lengths, self.step, self.seed, self.epoch = lengths, step, seed, epoch
        self.together = together

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        shuffled, short = batches_by_length(
            self.lengths, self.step, self.seed, self.epoch(), self.together
        )
        shuffled.sort(key=lambda rows: self.lengths[rows[0]] < max(self.lengths))  # stable
        for rows in (*shuffled, *short):
            yield from rows


def ordered(trainer: Any, together: int = BATCHES_SORTED) -> Callable[[], LengthSampler]:
    """What makes the sampler of a trainer whose rows tell their lengths."""
    args = trainer.args
    seed = args.seed if args.data_seed is None else args.data_seed
    step = trainer._train_batch_size * args.gradient_accumulation_steps * args.world_size
    lengths = lengths_of(trainer)
    assert lengths is not None

    def make() -> LengthSampler:
        return LengthSampler(lengths, step, seed, lambda: int(trainer.state.epoch or 0), together)

    return make


class ByLength(Accelerator):
    """Length grouping, for collators that pad a batch to its longest row."""

    name = "by_length"
    brings = "batches of one length each, with little padding"
    changes = "the order of the data"

    def clash(self, args: Any) -> str | None:
        """Another order was asked for."""
        if args.train_sampling_strategy != "random":
            return f"train_sampling_strategy={args.train_sampling_strategy!r} sets the order"
        return None

    def obstacle(self, trainer: Any) -> str | None:
        """Rows have one length, or none that can be told, or are not padded by the batch."""
        if lengths_of(trainer) is None:
            return "the data do not tell the length of a row"
        if not lengths_vary(trainer):
            return "all rows have one length"
        if not pads_to_the_longest(trainer):
            return "the collator gives every batch one length"
        return None

    @contextmanager
    def on(self, trainer: Any) -> Iterator[None]:
        """Order the training data by `LengthSampler`."""
        with trainer.hooked(trainer.samplers, ordered(trainer)):
            yield
