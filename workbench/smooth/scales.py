"""The smoothing scale of each channel."""

import torch
from torch import Tensor

SMALLEST = 1e-5


def smoothing_scales(x_absmax: Tensor, w_absmax: Tensor, alpha: float) -> Tensor:
    """`s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)` (SmoothQuant, arXiv:2211.10438, equation 4).

    Both maxima are float [K], clamped from below at 1e-5. Dividing activations by `s` and
    multiplying weight columns by it leaves the product as it was; afterwards their maxima are
    exactly `x / s` and `w * s`. A channel that is always zero has scale 1.
    """
    x = x_absmax.double()
    scales = x.clamp_min(SMALLEST) ** alpha / w_absmax.double().clamp_min(SMALLEST) ** (1 - alpha)
    return torch.where(x > 0, scales, torch.ones_like(scales)).float()
