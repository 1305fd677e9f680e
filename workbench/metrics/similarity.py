"""Whether two sets of embeddings of the same texts have the same neighbours, in the same order."""

import scipy  # whose parts load when they are used: a kernel starts without them
import torch
from torch import Tensor


def neighbour_agreement(reference: Tensor, candidate: Tensor, k: int = 1) -> float:
    """Mean share of each row's `k` nearest rows (by cosine, itself left out) that both agree on.

    `reference` and `candidate` are [n, d] with n > k. Raises ValueError where n is too small.
    """
    if len(reference) <= k:
        raise ValueError(f"{k} neighbours of {len(reference)} texts: give more than {k} texts")

    def nearest(embeddings: Tensor) -> Tensor:
        return _similarity(embeddings).fill_diagonal_(-torch.inf).topk(k, dim=-1).indices

    ours, theirs = nearest(reference), nearest(candidate)
    return (ours.unsqueeze(-1) == theirs.unsqueeze(-2)).any(-1).double().mean().item()


def ranking_agreement(reference: Tensor, candidate: Tensor) -> float:
    """Mean over rows of Spearman's rank correlation of their similarity (cosine) to all others.

    `reference` and `candidate` are [n, d] with n > 2. Raises ValueError where n is too small.
    """
    if len(reference) < 3:
        raise ValueError(f"a ranking among the others of {len(reference)} texts: give at least 3")
    off = ~torch.eye(len(reference), dtype=torch.bool)

    def ranks(embeddings: Tensor) -> Tensor:
        others = _similarity(embeddings)[off].view(len(embeddings), -1)
        found = torch.as_tensor(scipy.stats.rankdata(others.cpu().numpy(), axis=1))
        return torch.nn.functional.normalize(found - found.mean(1, keepdim=True), dim=1)

    return (ranks(reference) * ranks(candidate)).sum(1).mean().item()


def _similarity(embeddings: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(embeddings.double(), dim=-1)
    return unit @ unit.T
