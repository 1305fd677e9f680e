"""Fewer threads: those of a small model wait for each other more than they compute."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from workbench.ops.threads import torch_threads
from workbench.train.accelerators.base import Accelerator


class Threads(Accelerator):
    """Half of torch's threads."""

    name = "threads"
    brings = "half as many threads, which wait less for each other"
    changes = "rounding: sums are split otherwise"

    def obstacle(self, trainer: Any) -> str | None:
        """The number was chosen, or cannot be halved."""
        if trainer.args.device.type != "cpu":
            return "a choice for processors only"
        if "OMP_NUM_THREADS" in os.environ:
            return f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} sets their number"
        if torch.get_num_threads() < 2:
            return "there is one thread"
        return None

    @contextmanager
    def on(self, trainer: Any) -> Iterator[None]:  # noqa: ARG002
        """Take half."""
        with torch_threads(torch.get_num_threads() // 2):
            yield
