"""Whether two sets of embeddings of the same texts have the same neighbours."""

import torch
from torch import Tensor


def neighbour_agreement(reference: Tensor, candidate: Tensor, k: int = 1) -> float:
    """Mean share of each row's `k` nearest rows (by cosine, itself left out) that both agree on.

    `reference` and `candidate` are [n, d] with n > k. Raises ValueError where n is too small.
    """
    if len(reference) <= k:
        raise ValueError(f"{k} neighbours of {len(reference)} texts: give more than {k} texts")

    def nearest(embeddings: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize(embeddings.double(), dim=-1)
        similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
        return similarity.topk(k, dim=-1).indices

    ours, theirs = nearest(reference), nearest(candidate)
    return (ours.unsqueeze(-1) == theirs.unsqueeze(-2)).any(-1).double().mean().item()
