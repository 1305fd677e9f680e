"""Liger's Triton kernels, on a GPU, through transformers' own argument."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from workbench.train.accelerators.base import Accelerator


class Liger(Accelerator):
    """What `use_liger_kernel=True` does; it patches the model for good, so it is not timed."""

    name = "liger"
    brings = "norms, rotations and the loss in fused Triton kernels"
    changes = "rounding"
    timed = False

    def obstacle(self, trainer: Any) -> str | None:
        """There is no GPU or no package."""
        if trainer.args.use_liger_kernel:
            return "use_liger_kernel=True is set already"
        if trainer.args.device.type != "cuda":
            return "its kernels are for GPUs"
        if find_spec("liger_kernel") is None:
            return "liger-kernel is not installed"
        return None

    @contextmanager
    def on(self, trainer: Any) -> Iterator[None]:
        """Patch the model as transformers does."""
        from transformers.integrations.liger import apply_liger_kernel

        apply_liger_kernel(trainer.model, trainer.args.liger_kernel_config)
        yield
