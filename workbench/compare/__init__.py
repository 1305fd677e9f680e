"""What quantization cost and what it bought: accuracy, speed and size against the original."""

from workbench.compare.comparison import Comparison, LayerError, compare
from workbench.compare.machine import machine, versions
from workbench.compare.paired import Difference, differences
from workbench.compare.quality import ParseRate, Perplexity, parse_rate, perplexity
from workbench.compare.sequences import sequence_scores
from workbench.compare.size import bytes_on_disk
from workbench.compare.speed import Speed, Timing, measure, measure_all
from workbench.compare.tasks import TaskScores, evaluate
from workbench.compare.throughput import Throughput, model_named, throughput

__all__ = [
    "Comparison",
    "Difference",
    "LayerError",
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
    "model_named",
    "parse_rate",
    "perplexity",
    "sequence_scores",
    "throughput",
    "versions",
]
