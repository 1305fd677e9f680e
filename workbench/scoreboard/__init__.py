"""Any list of models and recipes beside their originals, on tasks, in size and in speed."""

from workbench.scoreboard.board import Judged, Kept, Scoreboard
from workbench.scoreboard.judge import judge, judge_one, read_recipes
from workbench.scoreboard.markdown import scoreboard_markdown
from workbench.scoreboard.tables import ratio, scoreboard_tables

__all__ = [
    "Judged",
    "Kept",
    "Scoreboard",
    "judge",
    "judge_one",
    "ratio",
    "read_recipes",
    "scoreboard_markdown",
    "scoreboard_tables",
]
