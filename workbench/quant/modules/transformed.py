"""Float linears whose input slot is in use: where smoothing cannot fold, the scale waits here."""

from importlib import import_module
from typing import ClassVar, Self

import torch
from torch import Tensor, nn


class Transformed(nn.Module):
    """`plain(x * input_transform)`; quantizing moves the transform into the quantized module."""

    plain: ClassVar[type[nn.Module]]
    input_transform: Tensor

    @classmethod
    def from_linear(cls, linear: nn.Module, weight: Tensor, transform: Tensor) -> Self:
        """Make one with `weight`, in the layout of the `linear`, its bias, and `transform` [in]."""
        with torch.device("meta"):
            made = cls._shaped_as(linear)
        old = linear._parameters["weight"]
        made.weight = nn.Parameter(weight, requires_grad=old is not None and old.requires_grad)
        made._parameters["bias"] = linear._parameters["bias"]
        made.register_buffer("input_transform", transform)
        return made.train(linear.training)

    @classmethod
    def _shaped_as(cls, linear: nn.Module) -> Self:
        raise NotImplementedError


class TransformedLinear(Transformed, nn.Linear):
    """Of torch's own linear, or one that computes the same."""

    plain = nn.Linear

    @classmethod
    def _shaped_as(cls, linear: nn.Module) -> Self:
        assert isinstance(linear, nn.Linear)
        return cls(linear.in_features, linear.out_features)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's own name
        return torch.nn.functional.linear(input * self.input_transform, self.weight, self.bias)


def transformed_class(linear: nn.Module) -> type[Transformed] | None:
    """The class of such linears with a slot, None where there is none."""
    if isinstance(linear, nn.Linear):
        return TransformedLinear
    if any(kind.__name__ == "Conv1D" for kind in type(linear).__mro__):  # transformers is there
        found = import_module("workbench.quant.modules.transformed_conv1d").TransformedConv1D
        if isinstance(linear, found.plain):
            return found  # type: ignore[no-any-return]
    return None


def transformed(linear: nn.Module, transform: Tensor | None) -> nn.Module:
    """The `linear` with its `transform` [in], if there is one, in place."""
    if transform is not None:
        kind = transformed_class(linear)
        assert kind is not None
        linear.__class__ = kind
        linear.register_buffer("input_transform", transform)
    return linear
