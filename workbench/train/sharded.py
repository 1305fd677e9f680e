"""FSDP on processors: torch divides a model among them, but accelerate lets it on GPUs only."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.train.trainer import WorkbenchTrainer


def shard_on_processors(trainer: "WorkbenchTrainer") -> None:
    """Switch on the FSDP that was asked for, where accelerate would copy the model without a word.

    torch's `fully_shard` works over gloo as well; all else is accelerate's own.
    """
    from accelerate import PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    state = trainer.accelerator.state
    asked = getattr(trainer.args, "fsdp_plugin_args", None)
    if asked is None or state.distributed_type != DistributedType.MULTI_CPU:
        return
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**asked)
    for one in (state, PartialState()):  # each new state of accelerate copies from the second
        one.distributed_type = DistributedType.FSDP
    trainer.is_fsdp_enabled = True
