"""A float linear whose input slot is in use: where smoothing cannot fold, the scale waits here."""

from typing import Self

import torch
from torch import Tensor, nn


class TransformedLinear(nn.Linear):
    """`linear(x * input_transform)`; quantizing moves the transform into the quantized module."""

    input_transform: Tensor

    @classmethod
    def from_linear(cls, linear: nn.Linear, weight: Tensor, transform: Tensor) -> Self:
        """Make a linear with `weight` [out, in], the bias of `linear`, and `transform` [in]."""
        made = cls(linear.in_features, linear.out_features, bias=False, device="meta")
        made.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
        made.bias = linear.bias
        made.register_buffer("input_transform", transform)
        return made.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's own name
        return torch.nn.functional.linear(input * self.input_transform, self.weight, self.bias)


def transformed(linear: nn.Module, transform: Tensor | None) -> nn.Module:
    """The `linear` with its `transform` [in], if there is one, in place."""
    if transform is not None:
        linear.__class__ = TransformedLinear
        linear.register_buffer("input_transform", transform)
    return linear
