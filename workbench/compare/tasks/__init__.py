"""Tasks with right and wrong answers: what a model scores on each document."""

from workbench.compare.tasks.evaluate import TASKS, default_tasks, evaluate, file_of
from workbench.compare.tasks.harness import harness_scores
from workbench.compare.tasks.local import LOCAL
from workbench.compare.tasks.scores import TaskScores

__all__ = ["LOCAL", "TASKS", "TaskScores", "default_tasks", "evaluate", "file_of", "harness_scores"]
