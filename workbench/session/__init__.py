"""One model carried through one recipe, its jobs and its results."""

from workbench.session.job import Job, State
from workbench.session.session import Session, Stage, SweepPoint

__all__ = ["Job", "Session", "Stage", "State", "SweepPoint"]
