"""Activation statistics of every linear input, gathered in one pass and mergeable."""

from workbench.observe.observe import observe
from workbench.observe.statistics import Entry, Statistics

__all__ = ["Entry", "Statistics", "observe"]
