"""Lay the rows of a batch end to end, so that none of it is padding."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from workbench.train.accelerators.base import Accelerator
from workbench.train.lengths import lengths_vary, sample_batch

Batch = dict[str, Any]
PACKED = {"input_ids", "attention_mask", "labels", "token_type_ids"}


def pack(batch: Batch) -> Batch:
    """One row [1, sum of lengths] with positions that start anew for each sequence.

    transformers' masks keep sequences apart by these positions where no attention mask is given.
    The first label of each is ignored, as nothing before it predicts it.
    """
    mask = batch["attention_mask"].bool()
    positions = (mask.cumsum(1) - 1)[mask]
    labels = batch["labels"].clone()
    labels[torch.arange(len(mask)), mask.int().argmax(1)] = -100
    return {
        "input_ids": batch["input_ids"][mask][None],
        "position_ids": positions[None],
        "labels": labels[mask][None],
    }


class Packing(Accelerator):
    """Sequence packing for causal language models; only where the loss is proven to be the same."""

    name = "packing"
    brings = "no padding at all, at one product of all rows with all in attention"
    changes = "nothing but rounding: the loss of one batch was compared"

    def obstacle(self, trainer: Any) -> str | None:
        """The loss is not of tokens, there is no padding, or the packed loss differs."""
        if not trainer._loss_shifts_labels:
            return "the model does not predict each next token: rows cannot be joined"
        batch = sample_batch(trainer)
        if batch is None:
            return "no batch could be looked at"
        needed = {"input_ids", "attention_mask", "labels"}
        if not needed <= set(batch) <= PACKED:
            return f"batches hold {', '.join(batch)}, not {', '.join(sorted(needed))}"
        if not lengths_vary(trainer) or bool(batch["attention_mask"].all()):
            return "all rows have one length: there is no padding"
        if not all(isinstance(v, Tensor) and v.dim() == 2 for v in batch.values()):
            return "batches are not matrices of tokens"
        return trainer.differs(pack, batch)

    @contextmanager
    def on(self, trainer: Any) -> Iterator[None]:
        """Pack each batch before its loss."""
        with trainer.hooked(trainer.rebatch, pack):
            yield
