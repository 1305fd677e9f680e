"""One embedding of a text, from the hidden states of its tokens."""

from torch import Tensor


def mean_pool(states: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average states [B, T, D] over the tokens that `mask` [B, T] keeps, in float32: [B, D]."""
    states = states.float()
    if mask is None:
        return states.mean(1)
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
