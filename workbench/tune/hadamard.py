"""Orthogonal matrices with entries of one size, which spread an outlier over all channels."""

import torch
from torch import Tensor

from workbench.errors import WorkbenchError


def rotation_matrix(size: int, seed: int = 0) -> Tensor:
    """A random orthogonal matrix [size, size], float64.

    A Hadamard matrix over sqrt(size) with random signs of its columns where one is known
    (`hadamard`), else the Q factor of a normal matrix.
    """
    generator = torch.Generator().manual_seed(seed)
    found = hadamard(size)
    if found is None:
        normal = torch.randn(size, size, generator=generator, dtype=torch.float64)
        return torch.linalg.qr(normal).Q
    signs = torch.randint(0, 2, (size,), generator=generator) * 2 - 1
    return found * signs / size**0.5


def hadamard(size: int) -> Tensor | None:
    """A matrix of 1 and -1 with orthogonal rows, float64, or None where this finds none.

    Paley's for a prime p (order p + 1 if p = 3 mod 4, 2(p + 1) if p = 1 mod 4), doubled as often as
    needed by Sylvester's; the least such order that leaves a power of 2 is taken.
    """
    if size < 1:
        raise WorkbenchError(f"a Hadamard matrix of order {size}: give at least 1")
    base = size // (size & -size)  # its odd factor
    while base <= size:
        core = _core(base)
        if core is not None:
            made = core
            while len(made) < size:
                made = torch.cat([torch.cat([made, made], 1), torch.cat([made, -made], 1)])
            return made
        base *= 2
    return None


def _core(order: int) -> Tensor | None:
    """A Hadamard matrix of this order that is no double, or None."""
    if order in (1, 2):
        return torch.tensor([[1.0, 1.0], [1.0, -1.0]][:order], dtype=torch.float64)[:, :order]
    if order % 4:
        return None
    if _is_prime(order - 1):  # p + 1 is a multiple of 4, so p = 3 mod 4
        return torch.eye(order, dtype=torch.float64) + _bordered(order - 1, -1)
    half = order // 2
    if _is_prime(half - 1) and half % 4 == 2:
        conference = _bordered(half - 1, 1)
        plus = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
        minus = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
        eye = torch.eye(half, dtype=torch.float64)
        return torch.kron(conference, plus) + torch.kron(eye, minus)
    return None


def _bordered(prime: int, corner: int) -> Tensor:
    """Paley's matrix of quadratic residues with a border: row of 1, column of `corner`."""
    squares = {i * i % prime for i in range(1, prime)}
    residue = [0] + [1 if i in squares else -1 for i in range(1, prime)]
    made = torch.zeros(prime + 1, prime + 1, dtype=torch.float64)
    made[0, 1:], made[1:, 0] = 1, corner
    index = (torch.arange(prime).view(-1, 1) - torch.arange(prime)) % prime
    made[1:, 1:] = torch.tensor(residue, dtype=torch.float64)[index]
    return made


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % i for i in range(2, int(number**0.5) + 1))
