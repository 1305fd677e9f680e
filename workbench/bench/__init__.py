"""Measurements that take too long, or too much of a machine, to be tests."""

from workbench.bench.layers import LayerReport, LayerRow, measure_layers
from workbench.bench.memory import MemoryRow, measure_memory
from workbench.bench.models import ModelReport, ModelRow, measure_models
from workbench.bench.quality import QualityReport, QualityRow, measure_quality
from workbench.bench.throughput import ThroughputReport, ThroughputRow, measure_throughput

__all__ = [
    "LayerReport",
    "LayerRow",
    "MemoryRow",
    "ModelReport",
    "ModelRow",
    "QualityReport",
    "QualityRow",
    "ThroughputReport",
    "ThroughputRow",
    "measure_layers",
    "measure_memory",
    "measure_models",
    "measure_quality",
    "measure_throughput",
]
