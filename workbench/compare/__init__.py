"""What quantization cost and what it bought: accuracy, speed and size against the original."""

from workbench.compare.comparison import Comparison, LayerError, compare
from workbench.compare.machine import machine, versions
from workbench.compare.paired import Difference, differences
from workbench.compare.quality import ParseRate, Perplexity, parse_rate, perplexity
from workbench.compare.sequences import sequence_scores
from workbench.compare.size import bytes_on_disk
from workbench.compare.speed import (
    LayerTimes,
    Speed,
    Throughput,
    Timing,
    measure,
    measure_all,
    measure_layers,
    model_named,
    throughput,
)
from workbench.compare.tasks import TaskScores, evaluate

__all__ = [
    "Comparison",
    "Difference",
    "LayerError",
    "LayerTimes",
    "ParseRate",
    "Perplexity",
    "Speed",
    "TaskScores",
    "Throughput",
    "Timing",
    "bytes_on_disk",
    "compare",
    "differences",
    "evaluate",
    "machine",
    "measure",
    "measure_all",
    "measure_layers",
    "model_named",
    "parse_rate",
    "perplexity",
    "sequence_scores",
    "throughput",
    "versions",
]
