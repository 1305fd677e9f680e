"""What an accelerator is: when it applies, what it may change, how it is switched on."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.train.arguments import WorkbenchTrainingArguments
    from workbench.train.trainer import WorkbenchTrainer


class Accelerator:
    """One way to train faster.

    `changes` says what it may change in the numbers. One that is not `timed` cannot be switched off
    again, or changes nothing that a few steps show: it is taken wherever it applies.
    """

    name: str
    brings: str
    changes: str
    timed = True
    slow_start = False  # its first steps take so long that a short run never earns them back

    def clash(self, args: "WorkbenchTrainingArguments") -> str | None:  # noqa: ARG002
        """Which other argument forbids it; None where none does."""
        return None

    def obstacle(self, trainer: "WorkbenchTrainer") -> str | None:
        """Why it does not apply to this model, these data or this machine; None where it does."""
        raise NotImplementedError

    def on(self, trainer: "WorkbenchTrainer") -> AbstractContextManager[Any]:
        """Switch it on for the block, and leave everything as it was afterwards."""
        raise NotImplementedError
