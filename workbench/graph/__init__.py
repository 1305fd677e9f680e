"""Who reads whose output, found by tracing one forward."""

from workbench.graph.inputs import InputGroup, input_groups, tied_modules
from workbench.graph.norms import gain_offset
from workbench.graph.trace import Reading, trace

__all__ = ["InputGroup", "Reading", "gain_offset", "input_groups", "tied_modules", "trace"]
