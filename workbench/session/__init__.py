"""One model carried through one recipe, its jobs and its results."""

from workbench.session.history import History, Run
from workbench.session.job import Job, State
from workbench.session.session import Losses, Session, Stage, SweepPoint

__all__ = ["History", "Job", "Losses", "Run", "Session", "Stage", "State", "SweepPoint"]
