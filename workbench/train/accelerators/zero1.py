"""The optimizer's state divided among processes (ZeRO stage 1, arXiv:1910.02054)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workbench.train.accelerators.base import Accelerator


class Zero1(Accelerator):
    """torch's ZeroRedundancyOptimizer: each process steps its share, then all exchange."""

    name = "zero1"
    brings = "an optimizer state divided among the processes"
    changes = "nothing"
    timed = False

    def clash(self, args: Any) -> str | None:
        """The state is divided in another way."""
        if args.fsdp:
            return "fsdp divides the optimizer already"
        if args.deepspeed:
            return "deepspeed divides the optimizer already"
        return None

    def obstacle(self, trainer: Any) -> str | None:
        """There is one process, or an optimizer that was given."""
        if trainer.args.world_size == 1:
            return "there is one process"
        if trainer.optimizer is not None or trainer.optimizer_cls_and_kwargs is not None:
            return "the optimizer was given"
        return None

    @contextmanager
    def on(self, trainer: Any) -> Iterator[None]:
        """Have the optimizer of the arguments made in pieces."""
        from workbench.train.divided import DividedOptimizer  # not every build of torch has it

        inner, keywords = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
        trainer.optimizer_cls_and_kwargs = (
            DividedOptimizer,
            {"optimizer_class": inner, **keywords},
        )
        try:
            yield
        finally:
            trainer.optimizer_cls_and_kwargs = None
