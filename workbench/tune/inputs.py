"""What a linear is multiplied by, as calibration has it: tokens, their Gram matrix, their mean."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from workbench.tune.stream import Call


class Inputs:
    """The tokens [n, K] of all batches at one layer, behind its input slot."""

    def __init__(self, calls: Sequence[Call], transform: Tensor | None = None) -> None:
        self._calls = calls
        self._transform = transform
        self._versions = [call.input._version for call in calls]

    def are(self, calls: Sequence[Call], transform: Tensor | None) -> bool:
        """Whether these are the very same tensors, not changed since."""
        return (
            transform is self._transform
            and len(calls) == len(self._calls)
            and all(a.input is b.input for a, b in zip(calls, self._calls, strict=True))
            and self._versions == [call.input._version for call in calls]
        )

    @cached_property
    def parts(self) -> list[Tensor]:
        """The tokens of each batch, float32 [n, K]."""
        rows = [call.rows.float() for call in self._calls]
        return rows if self._transform is None else [part * self._transform for part in rows]

    @property
    def count(self) -> int:
        """Number of tokens."""
        return sum(len(part) for part in self.parts)

    @cached_property
    def gram(self) -> Tensor:
        """Sum of x^T x over the tokens, float64 [K, K]."""
        total = self.parts[0].new_zeros(2 * [self.parts[0].shape[1]], dtype=torch.float64)
        for part in self.parts:
            total += part.T @ part
        return total

    @cached_property
    def mean(self) -> Tensor:
        """Mean over the tokens, float32 [K]."""
        return (torch.stack([p.double().sum(0) for p in self.parts]).sum(0) / self.count).float()

    @cached_property
    def magnitude(self) -> Tensor:
        """Mean absolute value of each channel, float32 [K]."""
        sums = torch.stack([part.abs().double().sum(0) for part in self.parts])
        return (sums.sum(0) / self.count).float()

    @cached_property
    def _short(self) -> Tensor:
        return self.gram.float()

    def error(self, difference: Tensor) -> float:
        """Squared norm of the output that a `difference` [out, K] of weights makes, all tokens."""
        return float((difference @ self._short).mul_(difference).sum(dtype=torch.float64))
