"""Agreement of two models' next-token (or class) distributions, from their logits."""

from torch import Tensor


def kl_divergence(reference_logits: Tensor, candidate_logits: Tensor) -> Tensor:
    """KL(reference || candidate) in nats for each position: [..., C], [..., C] -> [...]."""
    p = reference_logits.float().log_softmax(-1)
    q = candidate_logits.float().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def top1_agreement(reference_logits: Tensor, candidate_logits: Tensor) -> Tensor:
    """Whether both rank the same class first at each position: [..., C], [..., C] -> bool [...]."""
    return reference_logits.argmax(-1) == candidate_logits.argmax(-1)
