"""Hashes that tell tokens and batches apart by content alone."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

HASHED = 32  # channels that tell one token from another


def priorities(rows: Tensor) -> Tensor:
    """Hash each row of `rows` [n, K] float32 by some of its content to an int64: [n]."""
    some = rows[:, :: -(-rows.shape[1] // HASHED)]
    return mixed(some.contiguous().view(torch.int32))


def mixed(numbers: Tensor) -> Tensor:
    """Hash each row of the integers [n, C] to an int64: [n]."""
    generator = torch.Generator().manual_seed(0x5EED)
    mixers = torch.randint(-(2**62), 2**62, (numbers.shape[1],), generator=generator) | 1
    hashed = (numbers.to(torch.int64) * mixers.to(numbers.device)).sum(1)  # wraps, as a hash should
    return hashed ^ (hashed >> 29)


def digest(example: Mapping[str, Tensor]) -> str:
    """A hash of named tensors by content."""
    found = hashlib.blake2b(digest_size=16)
    for name, value in sorted(example.items()):
        found.update(f"{name} {tuple(value.shape)}".encode())
        found.update(
            value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return found.hexdigest()
