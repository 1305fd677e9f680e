"""Recognize by trial whether a module multiplies its output by a gain per channel."""

import torch
from torch import Tensor, nn


def gain_offset(module: nn.Module, x: Tensor) -> float | None:
    """Return the `c` for which `module` multiplies by `c + weight`: most norms 0, Gemma's 1.

    None where it does not: the gain is changed twice and the outputs for `x` [..., K] must follow.
    The module is left as it was.
    """
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter) or weight.dim() != 1 or list(module.children()):
        return None
    if isinstance(module, nn.Linear) or weight.shape[0] != x.shape[-1]:
        return None
    bias = getattr(module, "bias", None)
    kept = weight.data
    try:
        with torch.no_grad():
            shift = torch.zeros(()) if bias is None else bias.data
            weight.data = torch.zeros_like(kept)
            at_zero = module(x) - shift
            weight.data = torch.ones_like(kept)
            at_one = module(x) - shift
            factor = torch.linspace(0.5, 2.0, len(kept), dtype=kept.dtype, device=kept.device)
            weight.data = factor
            at_factor = module(x) - shift
    finally:
        weight.data = kept
    step = at_one - at_zero
    if step.abs().max() == 0:
        return None
    for offset in (0.0, 1.0):
        follows = torch.allclose(at_zero, offset * step, rtol=1e-4, atol=1e-5)
        if follows and torch.allclose(at_factor, (offset + factor) * step, rtol=1e-4, atol=1e-5):
            return offset
    return None
