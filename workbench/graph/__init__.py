"""Who reads whose output, found by running the model."""

from workbench.graph.inputs import InputGroup, input_groups, tied_modules
from workbench.graph.matrices import Matrix, along
from workbench.graph.norms import gain_offset

__all__ = ["InputGroup", "Matrix", "along", "gain_offset", "input_groups", "tied_modules"]
