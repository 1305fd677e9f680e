"""What `workbench.compile` made of a model."""

from dataclasses import dataclass, field

from torch import nn


@dataclass
class Compiled:
    """What `compile` did: how many ops of each kind it made, or the `problem` that kept it away."""

    ops: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    problem: str | None = None

    def __str__(self) -> str:
        if self.problem is not None:
            return f"not compiled: {self.problem}"
        made = ", ".join(f"{count} of {kind}" for kind, count in self.ops.items() if count)
        return f"compiled to native ops: {made or 'on the first call'}"


DONE = "compiled_by_workbench"  # the attribute of a model that keeps what was done


def compiled(model: nn.Module) -> Compiled | None:
    """What `compile` did to `model`; None where it did nothing, or was undone since."""
    found: Compiled | None = vars(model).get(DONE)
    # A copy of a model is not compiled, although it has all attributes.
    return found if found is not None and model._compiled_call_impl is not None else None
