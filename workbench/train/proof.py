"""Whether two ways to feed a training step give one loss."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from workbench.train.trainer import WorkbenchTrainer

Batch = dict[str, Any]

ROUNDING = 1e-4  # relative; sums of a few hundred float32 terms differ by less


def differs(
    trainer: "WorkbenchTrainer", before: Sequence[Batch], after: Sequence[Batch]
) -> str | None:
    """Why the losses of two lists of micro-batches of one step differ; None where they agree.

    Without dropout, scaled and added up as the trainer does before it steps.
    """
    try:
        one, other = step_loss(trainer, before), step_loss(trainer, after)
    except Exception as error:  # noqa: BLE001 - the model's own, whatever it is
        return f"the model refuses it: {type(error).__name__}: {str(error).splitlines()[:1]}"
    if abs(one - other) <= ROUNDING * max(abs(one), abs(other), 1e-6):
        return None
    return f"the loss would be {other:.6g} instead of {one:.6g}"


@torch.no_grad()
def step_loss(trainer: "WorkbenchTrainer", batches: Sequence[Batch]) -> float:
    """The loss whose gradient one optimizer step on these micro-batches would follow."""
    model = trainer.model
    was_training = model.training
    device = trainer.args.device
    items = trainer._get_num_items_in_batch(list(batches), device)
    total = 0.0
    model.eval()
    try:
        for batch in batches:
            inputs = trainer._prepare_inputs(dict(batch))
            loss: Any = trainer.compute_loss(model, inputs, num_items_in_batch=items)
            total += float(loss)
    finally:
        model.train(was_training)
    return total / (1 if _scaled(trainer, items) else len(batches))


def _scaled(trainer: "WorkbenchTrainer", items: Any) -> bool:
    """As `Trainer.training_step` decides whether to divide by the number of micro-batches."""
    said = getattr(trainer, "loss_is_scaled_for_ga", None)
    if said is not None:
        return bool(said)
    by_model = trainer.model_accepts_loss_kwargs and items is not None
    return bool(by_model or trainer.compute_loss_func is not None)
