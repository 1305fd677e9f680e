"""torch.compile of the forward and backward pass of a training step."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch

from workbench.train.accelerators.base import Accelerator
from workbench.train.lengths import lengths_vary


class Compiled(Accelerator):
    """The model compiled in place while its loss is computed; evaluation runs it as it is."""

    name = "compile"
    brings = "elementwise work fused into few loops"
    changes = "rounding: sums are taken in another order"
    slow_start = True

    def obstacle(self, trainer: Any) -> str | None:
        """It is compiled already, or Triton is missing on a GPU."""
        if trainer.args.torch_compile:
            return "torch_compile=True is set already"
        if trainer.args.device.type == "cuda" and find_spec("triton") is None:
            return "triton is not installed"
        return None

    @contextmanager
    def on(self, trainer: Any) -> Iterator[None]:
        """Compile at the first loss; one graph for all lengths where they vary."""
        dynamic = True if lengths_vary(trainer) else None

        @contextmanager
        def around() -> Iterator[None]:
            model = trainer.accelerator.unwrap_model(trainer.model)
            if trainer.compiled is None or trainer.compiled[0] is not model:
                trainer.compiled = model, torch.compile(model._call_impl, dynamic=dynamic)
            model._compiled_call_impl = trainer.compiled[1]
            try:
                yield
            finally:
                model._compiled_call_impl = None

        with trainer.hooked(trainer.around_loss, around):
            yield
