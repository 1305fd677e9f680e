"""The best bits for each layer under a budget."""

import math
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from workbench.errors import WorkbenchError
from workbench.progress import track
from workbench.quant import QuantArgs
from workbench.tune.damage import Sensitivity
from workbench.tune.kept import Kept
from workbench.tune.program import Kind, Latencies, Picked, Program


class Budget(BaseModel):
    """At most so many bytes of weights, bits in the mean over weights, or units of latency."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    limit: float = Field(gt=0, allow_inf_nan=False)

    def __str__(self) -> str:
        return f"{self.limit:.12g} {self.kind.replace('_', ' ')}"


class Allocation(Kept):
    """A candidate for each layer. `damages` are predicted, and their sum `damage`: not measured.

    Layers that `shared` lists together got the same one. `measured` has the damage of the choice
    and of those that it was compared with, where they were tried (`refine`).
    """

    choice: dict[str, str]
    candidates: dict[str, QuantArgs]
    damages: dict[str, float]
    cost: float
    budget: Budget
    shared: tuple[tuple[str, ...], ...]
    measured: dict[str, float] = Field(default_factory=dict)

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
    program = Program.of(sensitivity, budget.kind, latencies, shared)
    return allocated(sensitivity, program, budget, predicted_best(program, budget))


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


def predicted_best(program: Program, budget: Budget) -> Picked:
    """The solution of least predicted damage; raises WorkbenchError where none fits."""
    least = float(program.cost.min(axis=1).sum())
    if least > budget.limit * (1 + 1e-12):
        raise WorkbenchError(
            f"no choice of {', '.join(program.keys)} fits a budget of {budget}: "
            f"the least possible is {_rounded_up(least):g}"
        )
    return program.solve(program.damage, budget.limit)


def allocated(
    sensitivity: Sensitivity,
    program: Program,
    budget: Budget,
    picked: Picked,
    measured: dict[str, float] | None = None,
) -> Allocation:
    """The solution `picked` of `program`, layer by layer."""
    choice = program.choice(picked)
    return Allocation(
        choice={name: choice[name] for name in sensitivity.layers},
        candidates=sensitivity.candidates,
        damages={n: found[choice[n]].output for n, found in sensitivity.layers.items()},
        cost=program.cost_of(picked),
        budget=budget,
        shared=tuple(tuple(unit) for unit in program.units if len(unit) > 1),
        measured=measured or {},
    )


def _rounded_up(value: float) -> float:
    """Six digits, none too few to fit."""
    step = 10 ** (math.floor(math.log10(value)) - 5)
    return math.ceil(value / step - 1e-9) * step
