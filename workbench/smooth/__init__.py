"""SmoothQuant: move the difficulty of outlier channels from activations into weights."""

from workbench.smooth.alphas import check_alpha
from workbench.smooth.scales import smoothing_scales
from workbench.smooth.search import AlphaSearch, search_alpha
from workbench.smooth.smooth import SmoothedGroup, Smoothing, smooth
from workbench.smooth.verdict import Verdict

__all__ = [
    "AlphaSearch",
    "SmoothedGroup",
    "Smoothing",
    "Verdict",
    "check_alpha",
    "search_alpha",
    "smooth",
    "smoothing_scales",
]
