"""AdamW in one kernel."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.training_args import OptimizerNames

from workbench.train.accelerators.base import Accelerator


class FusedOptimizer(Accelerator):
    """torch's fused AdamW where its plain one was asked for (transformers' default is fused)."""

    name = "fused_optimizer"
    brings = "AdamW in one pass over the weights"
    changes = "rounding"

    def obstacle(self, trainer: Any) -> str | None:
        """The optimizer is fused already, or another."""
        if trainer.optimizer is not None or trainer.optimizer_cls_and_kwargs is not None:
            return "the optimizer was given"
        if trainer.args.optim == OptimizerNames.ADAMW_TORCH_FUSED:
            return "the optimizer is fused already"
        if trainer.args.optim != OptimizerNames.ADAMW_TORCH:
            return f"{trainer.args.optim.value} has no fused form"
        return None

    @contextmanager
    def on(self, trainer: Any) -> Iterator[None]:
        """Ask for the fused one."""
        before = trainer.args.optim
        trainer.args.optim = OptimizerNames.ADAMW_TORCH_FUSED
        try:
            yield
        finally:
            trainer.args.optim = before
