"""Measurements that take too long, or too much of a machine, to be tests."""

from workbench.bench.layers import LayerReport, LayerRow, measure_layers
from workbench.bench.memory import MemoryRow, measure_memory
from workbench.bench.models import ModelReport, ModelRow, measure_models

__all__ = [
    "LayerReport",
    "LayerRow",
    "MemoryRow",
    "ModelReport",
    "ModelRow",
    "measure_layers",
    "measure_memory",
    "measure_models",
]
