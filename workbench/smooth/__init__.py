"""SmoothQuant: move the difficulty of outlier channels from activations into weights."""

from workbench.smooth.scales import smoothing_scales
from workbench.smooth.smooth import SmoothedGroup, Smoothing, check_alpha, smooth

__all__ = ["SmoothedGroup", "Smoothing", "check_alpha", "smooth", "smoothing_scales"]
