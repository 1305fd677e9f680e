"""What quantization cost and what it bought: accuracy, speed and size against the original."""

from workbench.compare.comparison import Comparison, LayerError, compare
from workbench.compare.machine import machine, versions
from workbench.compare.quality import ParseRate, Perplexity, parse_rate, perplexity
from workbench.compare.size import bytes_on_disk
from workbench.compare.speed import Speed, Timing, measure, measure_all

__all__ = [
    "Comparison",
    "LayerError",
    "ParseRate",
    "Perplexity",
    "Speed",
    "Timing",
    "bytes_on_disk",
    "compare",
    "machine",
    "measure",
    "measure_all",
    "parse_rate",
    "perplexity",
    "versions",
]
