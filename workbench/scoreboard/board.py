"""The table that Q8-Chat was shown by: tasks improved, mean degradation, serious losses."""

import math
from typing import Any

from pydantic import BaseModel, ConfigDict

from workbench.compare import Difference, Speed, TaskScores

SERIOUS = 0.03  # Q8-Chat counts the tasks that lost more than this


class Judged(BaseModel):
    """One recipe beside the float model it starts from; `bf16` is that model in bfloat16."""

    model_config = ConfigDict(frozen=True)
    name: str
    model: str
    recipe: dict[str, Any]
    tasks: list[Difference]
    bf16: list[Difference] = []  # where it was asked for
    bytes: dict[str, int]  # on disk: fp32, bf16, quantized
    speed: dict[str, Speed]  # of the same three

    @property
    def improved(self) -> float:
        """The share of tasks whose score rose, by however little."""
        return sum(_degradation(task) < 0 for task in self.tasks) / len(self.tasks)

    @property
    def told_apart(self) -> list[Difference]:
        """The tasks whose difference is more than chance."""
        return [task for task in self.tasks if task.verdict != "not told apart"]

    @property
    def degradation(self) -> float:
        """The mean relative degradation over tasks; negative where it gained."""
        return sum(_degradation(task) for task in self.tasks) / len(self.tasks)

    @property
    def serious(self) -> list[Difference]:
        """The tasks that lost more than 3 %."""
        return [task for task in self.tasks if _degradation(task) > SERIOUS]


class Kept(BaseModel):
    """Scores and measurements by the key of all that they depend on."""

    scores: dict[str, TaskScores] = {}
    bytes: dict[str, dict[str, int]] = {}
    speed: dict[str, dict[str, Speed]] = {}


class Scoreboard(BaseModel):
    """What was judged, and on what: `kept` holds every measured figure under its key."""

    model_config = ConfigDict(frozen=True)
    judged: list[Judged]
    limit: int | None
    seed: int
    threads: int
    machine: dict[str, Any]
    versions: dict[str, str]
    kept: Kept

    def _repr_markdown_(self) -> str:
        """The tables, where a notebook shows a scoreboard."""
        from workbench.scoreboard.markdown import scoreboard_markdown

        return scoreboard_markdown(self)


def _degradation(task: Difference) -> float:
    """Relative loss; where the float model scored nothing there is nothing to lose."""
    return 0.0 if task.degradation is None or math.isnan(task.degradation) else task.degradation
