"""Cut the columns of a batch in which every row is padding."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from workbench.train.accelerators.base import Accelerator
from workbench.train.lengths import sample_batch

Batch = dict[str, Any]


def trim(batch: Batch) -> Batch:
    """The batch without its last columns that no row attends to, at least one column wide."""
    mask = batch.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        return batch
    used = max(1, int(mask.any(0).nonzero().max()) + 1) if mask.any() else 1
    if used == mask.shape[1]:
        return batch
    return {
        name: value[:, :used] if isinstance(value, Tensor) and value.shape == mask.shape else value
        for name, value in batch.items()
    }


class Trimmed(Accelerator):
    """Dynamic padding, for data that were padded to one length beforehand."""

    name = "trim"
    brings = "no columns that are padding in every row"
    changes = "nothing but rounding: what is cut was masked"

    def obstacle(self, trainer: Any) -> str | None:
        """A batch holds no such column."""
        batch = sample_batch(trainer)
        if batch is None:
            return "no batch could be looked at"
        before = batch.get("attention_mask")
        if not isinstance(before, Tensor):
            return "batches have no attention mask"
        if trim(batch)["attention_mask"].shape == before.shape:
            return "batches are padded to their longest row already"
        return trainer.differs(trim, batch)

    @contextmanager
    def on(self, trainer: Any) -> Iterator[None]:
        """Trim each batch before its loss."""
        with trainer.hooked(trainer.rebatch, trim):
            yield
