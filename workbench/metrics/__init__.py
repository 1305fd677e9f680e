"""Measures of how far one result is from another: pure functions on tensors."""

from workbench.metrics.classification import kl_divergence, top1_agreement
from workbench.metrics.pooling import mean_pool
from workbench.metrics.signal import cosine, sqnr_db
from workbench.metrics.similarity import neighbour_agreement

__all__ = [
    "cosine",
    "kl_divergence",
    "mean_pool",
    "neighbour_agreement",
    "sqnr_db",
    "top1_agreement",
]
