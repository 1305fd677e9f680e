"""Measures of how far one result is from another: pure functions on tensors."""

from workbench.metrics.classification import kl_divergence, top1_agreement
from workbench.metrics.paired import Flips, Interval, adjusted, bootstrap_difference, mcnemar
from workbench.metrics.pooling import mean_pool
from workbench.metrics.signal import cosine, sqnr_db
from workbench.metrics.similarity import neighbour_agreement, ranking_agreement

__all__ = [
    "Flips",
    "Interval",
    "adjusted",
    "bootstrap_difference",
    "cosine",
    "kl_divergence",
    "mcnemar",
    "mean_pool",
    "neighbour_agreement",
    "ranking_agreement",
    "sqnr_db",
    "top1_agreement",
]
