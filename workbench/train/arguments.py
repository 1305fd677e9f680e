"""transformers' TrainingArguments, with what the trainer may do to be faster."""

from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from workbench.errors import WorkbenchError
from workbench.train.accelerators import accelerators


@dataclass
class WorkbenchTrainingArguments(TrainingArguments):
    """Every argument of transformers, and which accelerators the trainer may choose among.

    `accelerate` is "auto" (all that apply), "none" (transformers' trainer as it is), or a list of
    names. A trial before the first step keeps what pays; with `accelerate_trial` false, all that
    are allowed and apply are switched on untimed. Raises WorkbenchError for an unknown name, and
    for a name that another argument forbids.
    """

    # None first: transformers' parser of command lines takes what follows it.
    accelerate: None | str | list[str] = field(  # noqa: RUF036
        default="auto", metadata={"help": "'auto', 'none', or names of accelerators."}
    )
    accelerate_trial: bool = field(
        default=True, metadata={"help": "Time each accelerator first, and keep only what pays."}
    )
    accelerate_share: float = field(
        default=0.05, metadata={"help": "The share of the run that the trial may take at most."}
    )

    def __post_init__(self) -> None:
        """Check what concerns us, and then what concerns transformers."""
        given = self.accelerate
        if isinstance(given, str) and given not in ("auto", "none"):
            given = [name.strip() for name in given.split(",") if name.strip()]
        if given is None:
            given = "none"
        self.accelerate = given
        if not 0 < self.accelerate_share <= 1:
            raise WorkbenchError(
                f"accelerate_share is {self.accelerate_share}; it is a share of the run: above 0, "
                "and 1 at most"
            )
        super().__post_init__()
        named: list[Any] = given if isinstance(given, list) else []
        for name in named:
            if name not in accelerators:
                raise WorkbenchError(
                    f"accelerator {name!r} is unknown; allowed: 'auto', 'none', or some of "
                    f"{', '.join(accelerators)}"
                )
            clash = accelerators[name].clash(self)
            if clash is not None:
                raise WorkbenchError(f"accelerate asks for {name}, and {clash}: take one of them")

    @property
    def allowed(self) -> tuple[str, ...]:
        """The names of accelerators that may be switched on, in the order they are tried in."""
        if self.accelerate == "none":
            return ()
        if self.accelerate == "auto":
            return tuple(accelerators)
        return tuple(name for name in accelerators if name in (self.accelerate or ()))
