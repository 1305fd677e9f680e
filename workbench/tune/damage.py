"""The table of what each width does to each layer."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from workbench.errors import WorkbenchError
from workbench.models.atomic import write_text
from workbench.quant import QuantArgs


class Damage(BaseModel):
    """What one candidate does to one layer.

    `output` is the predicted damage to the model's output: KL to the float model in nats for each
    position or, where the model has no logits, the squared error of its output relative to its
    power. `sqnr_db` is measured at the layer's own output; infinite where equal. `task`, if a task
    was given, is the predicted rise of its loss.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    output: float
    sqnr_db: float
    task: float | None
    bits: int
    bytes: int


class Sensitivity(BaseModel):
    """Predicted damage by layer and candidate.

    `parameters` counts the weights of each layer; `shared` lists layers that must have the same
    bits, as they read one tensor or are one weight; `left` says why other layers are missing;
    `measure` is "kl" or "relative error", predicted over so many `positions`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: dict[str, dict[str, Damage]]
    candidates: dict[str, QuantArgs]
    parameters: dict[str, int]
    shared: list[tuple[str, ...]]
    left: dict[str, str]
    measure: str
    positions: int

    def save(self, path: Path | str) -> None:
        """Write a JSON file, which a reader sees whole or not at all."""
        write_text(Path(path), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; raises WorkbenchError where the file is something else."""
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            reason = " ".join(str(error).split())
            raise WorkbenchError(f"{path} cannot be read as a sensitivity: {reason}") from error


def cached(path: Path | str, compute: Callable[[], Sensitivity]) -> Sensitivity:
    """What the file `path` holds; computed, and kept there, where there is none.

    The name is the key: let it hold the hashes of the recipe, the model and the data.
    """
    if Path(path).exists():
        return Sensitivity.load(path)
    found = compute()
    found.save(path)
    return found
