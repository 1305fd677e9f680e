"""Accumulated micro-batches merged into as few as memory holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workbench.train.accelerators.base import Accelerator
from workbench.train.lengths import can_be_reread, collate
from workbench.train.memory import largest_that_fits
from workbench.train.proof import differs


class Merged(Accelerator):
    """The same rows in one optimizer step, in fewer and larger batches."""

    name = "merge"
    brings = "fewer, larger batches in a step of as many rows"
    changes = "nothing but rounding: the loss of one step was compared"

    def clash(self, args: Any) -> str | None:
        """The size of batches is found in another way."""
        return "auto_find_batch_size=True finds another size" if args.auto_find_batch_size else None

    def obstacle(self, trainer: Any) -> str | None:
        """Nothing is accumulated, the loss differs, or memory holds no more."""
        args = trainer.args
        accumulated = args.gradient_accumulation_steps
        if accumulated == 1:
            return "nothing is accumulated"
        if not can_be_reread(trainer):
            return "no batch could be looked at"
        one = trainer._train_batch_size
        rows = list(range(min(2 * one, len(trainer.train_dataset))))
        halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        if all(halves):
            differ = differs(
                trainer, [collate(trainer, half) for half in halves], [collate(trainer, rows)]
            )
            if differ is not None:
                return differ
        self.size = largest_that_fits(trainer, one, one * accumulated)
        return None if self.size > one else f"memory holds no batch larger than {one} rows"

    @contextmanager
    def on(self, trainer: Any) -> Iterator[None]:
        """Split a step into fewer batches."""
        with split(trainer, self.size):
            yield


@contextmanager
def split(trainer: Any, size: int) -> Iterator[None]:
    """Make batches of `size` rows inside the block, as many as leave the step as it was."""
    args = trainer.args
    before = (
        trainer._train_batch_size,
        args.per_device_train_batch_size,
        args.gradient_accumulation_steps,
    )
    rows = before[0] * before[2]
    trainer._train_batch_size = size
    args.per_device_train_batch_size = size // max(1, args.n_gpu)
    args.gradient_accumulation_steps = rows // size
    try:
        yield
    finally:
        trainer._train_batch_size = before[0]
        args.per_device_train_batch_size, args.gradient_accumulation_steps = before[1:]
