"""Multiply matrices in bfloat16 while training; weights, optimizer and evaluation stay float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from workbench.train.accelerators.base import Accelerator


class Bf16(Accelerator):
    """Autocast around the loss."""

    name = "bf16"
    brings = "matrix products in bfloat16"
    changes = "rounding: activations of a training step have 8 bits of precision"

    def clash(self, args: Any) -> str | None:
        """Another precision was asked for."""
        return "fp16=True sets another precision" if args.fp16 else None

    def obstacle(self, trainer: Any) -> str | None:
        """The processor has no instruction for it, or the weights are no float32."""
        if trainer.args.bf16:
            return "bf16=True is set already"
        dtypes = {p.dtype for p in trainer.model.parameters() if p.requires_grad}
        if dtypes != {torch.float32}:
            return f"the weights are {', '.join(sorted(str(d) for d in dtypes))}, not float32"
        device = trainer.args.device.type
        if device == "cuda":
            return None if torch.cuda.is_bf16_supported() else "this GPU has no bfloat16"
        if device != "cpu":
            return f"never measured on {device}"
        known = (torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported())
        return None if any(known) else "this processor has neither AMX nor AVX512-BF16"

    @contextmanager
    def on(self, trainer: Any) -> Iterator[None]:
        """Add autocast to what surrounds each loss."""
        around = partial(torch.autocast, trainer.args.device.type, torch.bfloat16)
        with trainer.hooked(trainer.around_loss, around):
            yield
