"""How the numbers of each layer's weights were chosen, as a plan tells it."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from workbench.tune import Allocation, TunedLayer


class Numbers(BaseModel):
    """What chose the integers of one layer.

    `algorithms` worked one after the other and left `sqnr_db` in its output on calibration inputs.
    `damage` is what its bits were predicted to do to the model's output, where a budget decided
    them; it is not measured. `reason` has what is to be known besides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithms: tuple[str, ...] = ()
    sqnr_db: float | None = None
    damage: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        parts = []
        if self.algorithms:
            how = "" if self.sqnr_db is None else f" ({self.sqnr_db:.1f} dB)"
            parts.append(", ".join(self.algorithms) + how)
        if self.damage is not None:
            parts.append(f"predicted damage {self.damage:.2g}")
        return "; ".join([*parts, *([self.reason] if self.reason else [])])


def numbers_of(allocation: Allocation | None, tuned: Iterable[TunedLayer]) -> dict[str, Numbers]:
    """What `allocate` and `tune` say of each layer, by its name."""
    found: dict[str, Numbers] = {}
    if allocation is not None:
        together = {name: unit for unit in allocation.shared for name in unit}
        for name, damage in allocation.damages.items():
            others = [other for other in together.get(name, ()) if other != name]
            reason = f"one of {len(allocation.candidates)} widths, within {allocation.budget}"
            if others:
                reason += f", the same as {' and '.join(others)}"
            if allocation.measured:
                reason += ", tried on calibration data"
            found[name] = Numbers(damage=damage, reason=reason)
    for layer in tuned:
        known = found.get(layer.name, Numbers())
        reasons = [reason for reason in (known.reason, layer.reason) if reason]
        told = {"algorithms": layer.algorithms, "sqnr_db": layer.sqnr_db}
        found[layer.name] = known.model_copy(update={**told, "reason": "; ".join(reasons)})
    return found
