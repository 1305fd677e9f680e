"""The table of what each width does to each layer."""

from pydantic import BaseModel, ConfigDict

from workbench.quant import QuantArgs
from workbench.tune.kept import Kept


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


class Sensitivity(Kept):
    """Predicted damage by layer and candidate.

    `parameters` counts the weights of each layer; `shared` lists layers that must have the same
    bits, as they read one tensor or are one weight; `left` says why other layers are missing;
    `measure` is "kl" or "relative error", predicted over so many `positions`.
    """

    layers: dict[str, dict[str, Damage]]
    candidates: dict[str, QuantArgs]
    parameters: dict[str, int]
    shared: list[tuple[str, ...]]
    left: dict[str, str]
    measure: str
    positions: int
