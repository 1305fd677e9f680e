"""How many rows of a batch memory holds."""

from typing import TYPE_CHECKING

import torch

from workbench.errors import in_words
from workbench.ops.resident import available, peak, reset_peak, resident
from workbench.train.lengths import by_length, collate

if TYPE_CHECKING:
    from workbench.train.trainer import WorkbenchTrainer

SPARE = 0.8  # of what is free may be taken: others grow too


def out_of_memory(error: BaseException) -> bool:
    """Whether this is an allocator's refusal, of a GPU or of the system."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in in_words(error)


def largest_that_fits(trainer: "WorkbenchTrainer", least: int, most: int) -> int:
    """The largest divisor of `most` that is a multiple of `least` and whose step fits in memory.

    One step on the longest rows is measured with `least` rows; activations grow with the rows.
    """
    needed = step_bytes(trainer, least)
    free = available(trainer.args.device)
    sizes = [n for n in range(least, most + 1, least) if most % n == 0]
    if needed is None or free is None:
        return least
    return max(n for n in sizes if n == least or needed * n / least < SPARE * free)


def step_bytes(trainer: "WorkbenchTrainer", rows: int) -> int | None:
    """Bytes that forward and backward of so many of the longest rows take at most, over the model.

    None where this system does not tell.
    """
    longest = by_length(trainer, 2)[-1]
    batch = collate(trainer, [longest] * rows)
    device = trainer.args.device
    before = resident(device)
    reset_peak(device)
    trainer.current_gradient_accumulation_steps = 1
    items = trainer._get_num_items_in_batch([batch], device)
    try:
        trainer.training_step(trainer.model, batch, items)
    finally:
        trainer.model.zero_grad()
    highest = peak(device)
    return None if before is None or highest is None else max(0, highest - before)
