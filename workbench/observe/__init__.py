"""Activation statistics of every linear input, gathered in one pass and mergeable."""

from workbench.observe.observe import observe, small_example
from workbench.observe.statistics import Entry, Statistics

__all__ = ["Entry", "Statistics", "observe", "small_example"]
