"""Smaller by design: distil, prune, quantize, and what each step brought, as measured."""

from workbench.waterfall.document import Instances, Row, Waterfall
from workbench.waterfall.verb import compress

__all__ = ["Instances", "Row", "Waterfall", "compress"]
