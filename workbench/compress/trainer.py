"""The trainer on texts: what it adds so that an interrupted run goes on to the same result."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from workbench.errors import WorkbenchError
from workbench.progress import track
from workbench.train.accelerators.by_length import ordered
from workbench.train.trainer import WorkbenchTrainer

TOGETHER = 50  # batches sorted: those of a student are larger than a trainer takes by itself


class TextTrainer(WorkbenchTrainer):
    """A trainer on texts in batches of about one length, with or without a teacher."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.samplers.append(ordered(self, TOGETHER))
        self._begun = time.perf_counter()
        self._before: float | None = None

    def training_step(self, *args: Any, **keywords: Any) -> Tensor:
        """One step; raises WorkbenchError where its loss is no number any more."""
        loss: Tensor = super().training_step(*args, **keywords)
        if not torch.isfinite(loss):
            raise WorkbenchError(
                f"the loss became {loss.item()} after {self.state.global_step} steps; lower the "
                f"learning rate, which is {self.args.learning_rate}"
            )
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the seconds of the whole run, which goes on where a checkpoint's log ended."""
        if self._before is None:
            self._before = max((row["seconds"] for row in self.state.log_history), default=0.0)
        seconds = self._before + time.perf_counter() - self._begun
        super().log(logs | {"seconds": seconds}, start_time)


class Reports(TrainerCallback):
    """Tell `workbench.progress` of each step, and obey it: pause, and cancel between two steps."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.steps: Iterator[int] = iter(())

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start to count, after a resumption where it left off."""
        self.steps = track(range(state.max_steps), self.what)
        for _ in range(state.global_step):
            next(self.steps)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wait while paused; raises Cancelled once asked to stop."""
        next(self.steps, None)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the last step."""
        next(self.steps, None)
