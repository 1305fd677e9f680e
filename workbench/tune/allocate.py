"""The best bits for each layer under a budget."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from workbench.errors import WorkbenchError
from workbench.progress import track
from workbench.quant import QuantArgs
from workbench.tune.damage import Sensitivity

Kind = Literal["bytes", "mean_bits", "latency"]
Latencies = Mapping[str, Mapping[str, float]]


class Budget(BaseModel):
    """At most so many bytes of weights, bits in the mean over weights, or units of latency."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    limit: float = Field(gt=0, allow_inf_nan=False)

    def __str__(self) -> str:
        return f"{self.limit:g} {self.kind.replace('_', ' ')}"


@dataclass(frozen=True)
class Allocation:
    """A candidate for each layer. `damages` are predicted, and their sum `damage`: not measured.

    Layers that `shared` lists together got the same one.
    """

    choice: dict[str, str]
    candidates: dict[str, QuantArgs]
    damages: dict[str, float]
    cost: float
    budget: Budget
    shared: tuple[tuple[str, ...], ...]

    @property
    def damage(self) -> float:
        """The sum over layers, as if none changed what others do."""
        return sum(self.damages.values())

    @property
    def weights(self) -> dict[str, QuantArgs]:
        """How to quantize the weights of each layer, as `quantize_mixed` takes it."""
        return {name: self.candidates[key] for name, key in self.choice.items()}


def allocate(
    sensitivity: Sensitivity,
    budget: Budget,
    *,
    latencies: Latencies | None = None,
    shared: Iterable[Sequence[str]] | None = None,
) -> Allocation:
    """Choose the candidate of every layer so that the predicted damage is least within `budget`.

    Solved exactly as an integer program (HiGHS, through `scipy.optimize.milp`). Layers that
    `shared` lists together get the same one, by default those that `sensitivity` says must.
    `latencies` gives the time of each layer with each candidate, in any one unit, for a budget of
    latency. Raises WorkbenchError where no choice fits, saying the least that would.
    """
    costs = _costs(sensitivity, budget.kind, latencies)
    units = _units(sensitivity, sensitivity.shared if shared is None else shared)
    keys = list(sensitivity.candidates)
    cost = np.array([[sum(costs[n][k] for n in unit) for k in keys] for unit in units])
    damage = np.array(
        [[sum(sensitivity.layers[n][k].output for n in unit) for k in keys] for unit in units]
    )
    least = float(cost.min(axis=1).sum())
    if least > budget.limit * (1 + 1e-12):
        raise WorkbenchError(
            f"no choice of {', '.join(keys)} fits a budget of {budget.limit:g} {budget.kind}: the "
            f"least possible is {_rounded_up(least):g}"
        )
    picked = _solve(damage, cost, budget.limit)
    choice = {n: keys[i] for unit, i in zip(units, picked, strict=True) for n in unit}
    rows = range(len(units))
    return Allocation(
        choice={name: choice[name] for name in sensitivity.layers},
        candidates=sensitivity.candidates,
        damages={n: found[choice[n]].output for n, found in sensitivity.layers.items()},
        cost=float(cost[rows, picked].sum()),
        budget=budget,
        shared=tuple(tuple(unit) for unit in units if len(unit) > 1),
    )


def front(
    sensitivity: Sensitivity,
    budgets: Iterable[Budget],
    *,
    latencies: Latencies | None = None,
    shared: Iterable[Sequence[str]] | None = None,
) -> list[Allocation]:
    """The best allocation of each budget: predicted points of the front, to be measured."""
    kept = None if shared is None else list(shared)
    return [
        allocate(sensitivity, budget, latencies=latencies, shared=kept)
        for budget in track(list(budgets), "allocating")
    ]


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


def _solve(damage: np.ndarray, cost: np.ndarray, limit: float) -> list[int]:
    """The column of each row with the least sum of `damage` whose sum of `cost` is in `limit`."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    rows, columns = damage.shape
    one_each = np.kron(np.eye(rows), np.ones(columns))
    found = milp(
        damage.ravel() / max(float(damage.max()), 1e-300),  # tolerances are absolute
        integrality=np.ones(damage.size),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(cost.reshape(1, -1) / limit, -np.inf, 1),
        ],
        options={"mip_rel_gap": 0},
    )
    if found.x is None:
        raise WorkbenchError(f"the allocation was not solved: {found.message}")
    return [int(i) for i in found.x.reshape(rows, columns).argmax(axis=1)]


def _rounded_up(value: float) -> float:
    """Six digits, none too few to fit."""
    step = 10 ** (math.floor(math.log10(value)) - 5)
    return math.ceil(value / step - 1e-9) * step
