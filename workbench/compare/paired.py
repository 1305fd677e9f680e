"""Two models on the same documents: which differences are more than chance."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from workbench import metrics
from workbench.compare.tasks.scores import TaskScores
from workbench.errors import WorkbenchError

LEVEL = 0.95

Verdict = Literal["better", "worse", "not told apart"]


class Difference(BaseModel):
    """The scores of a candidate on one task beside those of its reference.

    `low` and `high` bound `candidate - reference` at 95 % (paired bootstrap). Of binary scores
    `lost` and `won` count the documents that flipped, and `p` is McNemar's, adjusted for the number
    of tasks told in one go. `degradation` is relative and positive where the candidate is worse.
    """

    model_config = ConfigDict(frozen=True)
    task: str
    metric: str
    samples: int
    reference: float
    candidate: float
    low: float
    high: float
    lost: int | None
    won: int | None
    p: float | None
    degradation: float | None
    verdict: Verdict


def differences(
    reference: Sequence[TaskScores], candidate: Sequence[TaskScores], *, seed: int = 0
) -> list[Difference]:
    """Pair two runs of `evaluate` task by task.

    A difference is called one where chance is unlikely to make it: binary scores by the exact
    McNemar test with its false discoveries kept below 5 % over all tasks, others by whether the
    interval excludes zero.

    Raises WorkbenchError where a task is missing in one run or was judged on other documents.
    """
    pairs = [(before, _partner(before, candidate)) for before in reference]
    flips = [
        metrics.mcnemar(before.scores, after.scores) if before.binary and after.binary else None
        for before, after in pairs
    ]
    p_values = iter(metrics.adjusted([flip.p for flip in flips if flip is not None]))
    found = []
    for (before, after), flip in zip(pairs, flips, strict=True):
        interval = metrics.bootstrap_difference(
            before.scores, after.scores, before.weights, level=LEVEL, seed=seed
        )
        p = None if flip is None else next(p_values)
        told = interval.excludes(0) if p is None else p < 1 - LEVEL
        loss = (after.mean - before.mean) * (-1 if before.higher_is_better else 1)
        found.append(
            Difference(
                task=before.task,
                metric=before.metric,
                samples=len(before.scores),
                reference=before.mean,
                candidate=after.mean,
                low=interval.low,
                high=interval.high,
                lost=None if flip is None else flip.lost,
                won=None if flip is None else flip.won,
                p=p,
                degradation=loss / abs(before.mean) + 0.0 if before.mean else None,
                verdict="not told apart" if not told else "worse" if loss > 0 else "better",
            )
        )
    return found


def _partner(before: TaskScores, candidate: Sequence[TaskScores]) -> TaskScores:
    after = next((scores for scores in candidate if scores.task == before.task), None)
    if after is None:
        raise WorkbenchError(f"the second run has no {before.task}; evaluate both on it.")
    if (after.documents, len(after.scores)) != (before.documents, len(before.scores)):
        raise WorkbenchError(
            f"{before.task} was judged on other documents ({len(before.scores)} and "
            f"{len(after.scores)}); evaluate both with the same data, limit and seed."
        )
    return after
