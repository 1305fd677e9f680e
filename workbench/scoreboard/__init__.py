"""Any list of models and recipes beside their originals, on tasks, in size and in speed."""

from workbench.scoreboard.board import Judged, Scoreboard
from workbench.scoreboard.judge import judge, read_recipes
from workbench.scoreboard.tables import scoreboard_tables

__all__ = ["Judged", "Scoreboard", "judge", "read_recipes", "scoreboard_tables"]
