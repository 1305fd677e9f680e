"""How fast models are: one beside another, layer by layer, and several instances at once."""

from workbench.compare.speed.layer_times import LayerTimes, measure_layers
from workbench.compare.speed.throughput import Throughput, model_named, throughput
from workbench.compare.speed.timing import Timing
from workbench.compare.speed.whole import Speed, measure, measure_all

__all__ = [
    "LayerTimes",
    "Speed",
    "Throughput",
    "Timing",
    "measure",
    "measure_all",
    "measure_layers",
    "model_named",
    "throughput",
]
