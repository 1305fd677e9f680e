"""Try allocations on calibration data, and move from the best of them to what measures better."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from torch import nn

from workbench.errors import WorkbenchError
from workbench.progress import track
from workbench.quant import Optimizer
from workbench.tune.allocate import Allocation, Budget, allocated, predicted_best
from workbench.tune.damage import Sensitivity
from workbench.tune.program import Latencies, Picked, Program
from workbench.tune.trials import Trials

RESERVE = 4  # trials of each round kept for what it proposes


def refine(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    sensitivity: Sensitivity,
    budget: Budget,
    *,
    optimizer: Optimizer | None = None,
    latencies: Latencies | None = None,
    shared: Iterable[Sequence[str]] | None = None,
    trials: int = 64,
    tokens: int = 2048,
) -> Allocation:
    """Allocate within `budget` by what is measured on calibration `batches`, not by predictions.

    Predicted damages add up, as if no layer made good or worse what another does. So the float
    `model` is rounded and run as `allocate` says, and with one candidate for all layers; from the
    better of these on, each round moves every layer (or those that share bits, together) to its
    next candidates up and down, alone, and measures what that changes. The integer program over
    these differences says what to move at once, what if half as many layers may move, a quarter,
    and so on; the best of these, as measured, is where the next round starts. The search ends where
    none is better, and after `trials` runs over the first of the batches, as many as hold about
    `tokens` positions. As many more, where there are any, have the last word between what was found
    and what the search could start from. All is deterministic. Arguments and errors are
    those of `allocate`; `optimizer` finds the scales as in `sensitivity`.
    """
    batches = list(batches)
    few = _first(batches, tokens)
    if not few:
        raise WorkbenchError("no batches to try allocations on: give at least one")
    program = Program.of(sensitivity, budget.kind, latencies, shared)
    predicted = predicted_best(program, budget)
    if trials < 1:
        return allocated(sensitivity, program, budget, predicted)
    kinds = sensitivity.candidates

    def damage_on(some: Sequence[Mapping[str, Any]]) -> Callable[[Picked], float]:
        tried = Trials(model, some, kinds, optimizer, by_logits=sensitivity.measure == "kl")
        return lambda picked: tried.damage(program.choice(picked))

    search = Search(program, budget.limit, damage_on(few), trials)
    starts = {"as predicted": predicted} | _alike(program, budget.limit)
    for start in starts.values():
        search.damage(start)
    starts = {name: start for name, start in starts.items() if start in search.seen}
    best = search.descend(min(search.seen, key=search.seen.__getitem__))
    if others := _first(batches[len(few) :], tokens):  # few tokens favour what is made for them
        best = min(dict.fromkeys((*starts.values(), best)), key=damage_on(others))
    measured = {name: search.seen[start] for name, start in starts.items()}
    measured["refined"] = search.seen[best]
    return allocated(sensitivity, program, budget, best, measured)


def _first(batches: Sequence[Mapping[str, Any]], tokens: int) -> list[Mapping[str, Any]]:
    """As many of the first batches as hold so many positions, one at least."""
    kept: list[Mapping[str, Any]] = []
    for batch in batches:
        kept.append(batch)
        tokens -= next(iter(batch.values())).shape[:2].numel()
        if tokens <= 0:
            break
    return kept


def _alike(program: Program, limit: float) -> dict[str, Picked]:
    """The best candidate that all layers may have, as predicted, if one fits."""
    rows, columns = program.cost.shape
    able = [c for c in range(columns) if program.cost[:, c].sum() <= limit * (1 + 1e-12)]
    if not able:
        return {}
    best = min(able, key=lambda column: float(program.damage[:, column].sum()))
    return {f"{program.keys[best]} for all": (best,) * rows}


class Search:
    """Descends by measured differences; `seen` has the damage of every solution tried."""

    def __init__(
        self, program: Program, limit: float, measure: Callable[[Picked], float], trials: int
    ) -> None:
        self.program, self.limit = program, limit
        self.measure, self.trials = measure, trials
        self.seen: dict[Picked, float] = {}

    @property
    def left(self) -> int:
        """How many more solutions may be tried."""
        return self.trials - len(self.seen)

    def damage(self, picked: Picked) -> float:
        """The measured damage of a solution, tried once; infinite where no trial is left."""
        if picked not in self.seen:
            if self.left < 1:
                return np.inf
            self.seen[picked] = self.measure(picked)
        return self.seen[picked]

    def descend(self, best: Picked) -> Picked:
        """Go round by round from `best` to a solution that no proposal improves."""
        while self.left > RESERVE:
            found = self._proposed(best, self._differences(best))
            if found == best:
                break
            best = found
        return best

    def _proposed(self, best: Picked, differences: np.ndarray) -> Picked:
        """The best of `best` and what is proposed, with as many moves as pay, half as many, ..."""
        moves, proposals = len(best), [best]
        while moves:
            proposals.append(self.program.solve(differences, self.limit, best, moves))
            moves = sum(new != old for new, old in zip(proposals[-1], best, strict=True)) // 2
        return min(proposals, key=self.damage)

    def _differences(self, best: Picked) -> np.ndarray:
        """By how much each step away from `best` changes the damage; infinite where not tried."""
        found = np.full(self.program.cost.shape, np.inf)
        found[range(len(best)), best] = 0
        steps = self._steps(best)[: self.left - RESERVE]
        for row, column in track(steps, "trying bits"):
            moved = (*best[:row], column, *best[row + 1 :])
            found[row, column] = self.damage(moved) - self.seen[best]
        return found

    def _steps(self, best: Picked) -> list[tuple[int, int]]:
        """The next column up and down in cost for each row; the likeliest to pay come first.

        Likely are those up that by prediction win most for their cost, and those down that lose
        least, one after the other.
        """
        cost, damage = self.program.cost, self.program.damage
        up: list[tuple[float, int, int]] = []
        down: list[tuple[float, int, int]] = []
        for row, now in enumerate(best):
            order = np.argsort(cost[row], kind="stable").tolist()
            place = order.index(now)
            for steps, index in ((up, place + 1), (down, place - 1)):
                if 0 <= index < len(order):
                    column = order[index]
                    price = max(abs(float(cost[row, column] - cost[row, now])), 1e-300)
                    steps.append(
                        (float(damage[row, column] - damage[row, now]) / price, row, column)
                    )
        pairs = chain.from_iterable(zip_longest(sorted(up), sorted(down)))
        return [(row, column) for _, row, column in (step for step in pairs if step is not None)]
