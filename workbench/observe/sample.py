"""A sample of tokens that does not depend on how the data was split over passes."""

import torch
from torch import Tensor


def priorities(rows: Tensor) -> Tensor:
    """Hash each row of `rows` [n, K] float32 by content to an int64: [n]."""
    bits = rows.contiguous().view(torch.int32).to(torch.int64)
    generator = torch.Generator().manual_seed(0x5EED)
    mixers = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator) | 1
    hashed = (bits * mixers.to(rows.device)).sum(1)  # wraps, as a hash should
    return hashed ^ (hashed >> 29)


def keep_smallest(rows: Tensor, keys: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Keep the `size` rows of smallest key, in order of key; the same for any order of arrival."""
    order = keys.sort(stable=True).indices[:size]
    return rows[order].clone(), keys[order].clone()
