"""How much of a tensor survives: signal-to-quantization-noise ratio and cosine."""

import math

import torch
from torch import Tensor


def sqnr_db(reference: Tensor, candidate: Tensor) -> float:
    """Signal-to-quantization-noise ratio in dB: 10 log10(|ref|^2 / |ref - candidate|^2).

    Infinite where both are equal.
    """
    reference, candidate = reference.double(), candidate.double()
    noise = (reference - candidate).square().sum().item()
    signal = reference.square().sum().item()
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def cosine(reference: Tensor, candidate: Tensor) -> Tensor:
    """Cosine of each row of `reference` with its row of `candidate`: [n, d], [n, d] -> [n]."""
    return torch.nn.functional.cosine_similarity(reference.double(), candidate.double(), dim=-1)
