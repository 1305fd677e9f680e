"""Activation statistics of a model, gathered in one pass and mergeable."""

from workbench.observe.observe import observe, small_example
from workbench.observe.sample import Peaks, Tokens
from workbench.observe.statistics import Entry, Statistics
from workbench.observe.streams import Stream, Tap

__all__ = ["Entry", "Peaks", "Statistics", "Stream", "Tap", "Tokens", "observe", "small_example"]
