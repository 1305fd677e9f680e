"""The integer program behind allocations: one candidate for each unit, within a budget."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from workbench.errors import WorkbenchError
from workbench.tune.damage import Sensitivity

Kind = Literal["bytes", "mean_bits", "latency"]
Latencies = Mapping[str, Mapping[str, float]]
Picked = tuple[int, ...]

FINE = 1e4  # what a budget is counted as: the solver lets sums exceed their limits by 1e-6


@dataclass(frozen=True)
class Program:
    """Units of layers that are decided together, by candidate `keys`.

    `cost` and `damage` are float64 [units, keys]: what a choice takes of the budget, and what it is
    predicted to do. A solution is the column of each row.
    """

    units: list[list[str]]
    keys: list[str]
    cost: np.ndarray
    damage: np.ndarray

    @classmethod
    def of(
        cls,
        sensitivity: Sensitivity,
        kind: Kind,
        latencies: Latencies | None,
        shared: Iterable[Sequence[str]] | None,
    ) -> Self:
        """Read it off; raises WorkbenchError for units that overlap and times that are missing."""
        costs = _costs(sensitivity, kind, latencies)
        units = _units(sensitivity, sensitivity.shared if shared is None else shared)
        keys, layers = list(sensitivity.candidates), sensitivity.layers
        return cls(
            units,
            keys,
            np.array([[sum(costs[n][k] for n in unit) for k in keys] for unit in units]),
            np.array([[sum(layers[n][k].output for n in unit) for k in keys] for unit in units]),
        )

    def cost_of(self, picked: Picked) -> float:
        """What a solution takes of the budget."""
        return float(self.cost[range(len(picked)), picked].sum())

    def choice(self, picked: Picked) -> dict[str, str]:
        """The candidate of each layer."""
        pairs = zip(self.units, picked, strict=True)
        return {name: self.keys[column] for unit, column in pairs for name in unit}

    def solve(
        self, damage: np.ndarray, limit: float, near: Picked | None = None, moves: int = 0
    ) -> Picked:
        """The solution with the least sum of `damage` whose cost is within `limit`.

        Exact, by HiGHS through `scipy.optimize.milp`. Where damage is infinite a column is no
        choice. With `near`, at most so many rows have another column than that solution.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        rows, columns = damage.shape
        open_ = np.isfinite(damage).ravel()
        values = np.where(open_, damage.ravel(), 0)
        rules = [
            LinearConstraint(np.kron(np.eye(rows), np.ones(columns)), 1, 1),
            LinearConstraint(self.cost.reshape(1, -1) * (FINE / limit), -np.inf, FINE),
        ]
        if near is not None:
            stays = np.zeros(damage.shape)
            stays[range(rows), near] = 1
            rules.append(LinearConstraint(stays.reshape(1, -1), rows - moves, rows))
        found = milp(
            values / max(float(np.abs(values).max()), 1e-300),  # tolerances are absolute
            integrality=np.ones(damage.size),
            bounds=Bounds(0, open_.astype(float)),
            constraints=rules,
            options={"mip_rel_gap": 0},
        )
        if found.x is None:
            raise WorkbenchError(f"the allocation was not solved: {found.message}")
        return tuple(int(i) for i in found.x.reshape(rows, columns).argmax(axis=1))


def _costs(
    sensitivity: Sensitivity, kind: Kind, latencies: Latencies | None
) -> dict[str, dict[str, float]]:
    """What each candidate takes of the budget, layer by layer."""
    total = sum(sensitivity.parameters.values())
    made: dict[str, dict[str, float]] = {}
    for name, damages in sensitivity.layers.items():
        if kind == "bytes":
            made[name] = {key: float(damage.bytes) for key, damage in damages.items()}
        elif kind == "mean_bits":
            share = sensitivity.parameters[name] / total
            made[name] = {key: damage.bits * share for key, damage in damages.items()}
        else:
            given = (latencies or {}).get(name, {})
            missing = [key for key in damages if key not in given]
            if missing:
                raise WorkbenchError(
                    f"a budget of latency needs the time of {name} as {missing[0]}: give "
                    "latencies[layer][candidate] for all, as measured on the machine to run on"
                )
            made[name] = {key: float(given[key]) for key in damages}
    return made


def _units(sensitivity: Sensitivity, shared: Iterable[Sequence[str]]) -> list[list[str]]:
    """The layers that are decided together."""
    home: dict[str, list[str]] = {}
    for names in shared:
        for name in names:
            if name not in sensitivity.layers:
                raise WorkbenchError(f"{name!r} shares bits and is not in the sensitivity")
            if name in home:
                raise WorkbenchError(f"{name!r} is in two groups that share bits: join them")
            home[name] = list(names)
    units = [home.get(name, [name]) for name in sensitivity.layers]
    return [unit for name, unit in zip(sensitivity.layers, units, strict=True) if unit[0] == name]
