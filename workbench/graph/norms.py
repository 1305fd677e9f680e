"""Recognize by trial whether a module multiplies its output by a gain per channel."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call


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
    factor = torch.linspace(0.5, 2.0, len(weight), dtype=weight.dtype, device=weight.device)

    def output(gain: Tensor) -> Tensor:
        # Called with another gain, never given one: the parameter may be shared with a live model.
        with torch.no_grad():
            found: Tensor = functional_call(module, {"weight": gain}, (x,))
            return (found if bias is None else found - bias).float()

    at_zero, at_one = output(torch.zeros_like(weight)), output(torch.ones_like(weight))
    at_factor = output(factor)
    tolerance = 1e-4 if weight.dtype == torch.float32 else 4 * torch.finfo(weight.dtype).eps
    close = partial(torch.allclose, rtol=tolerance, atol=tolerance * at_one.abs().max().item() / 10)
    step = at_one - at_zero
    if step.abs().max() == 0:
        return None
    for offset in (0.0, 1.0):
        if close(at_zero, offset * step) and close(at_factor, (offset + factor) * step):
            return offset
    return None
