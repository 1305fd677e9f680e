"""The quantized linear layer."""

from typing import Self

import torch
from torch import Tensor, nn

from workbench import ops
from workbench.quant.args import QuantArgs
from workbench.quant.modules.base import QModule, register_qmodule
from workbench.quant.modules.transformed import TransformedLinear


@register_qmodule(nn.Linear)
@register_qmodule(TransformedLinear)
class QLinear(QModule):
    """`y = x W^T + b` with int8 weights and inputs; `workbench.ops.w8a8` has the arithmetic."""

    bias: Tensor | None

    def __init__(
        self, in_features: int, out_features: int, weights: QuantArgs, activations: QuantArgs | None
    ) -> None:
        super().__init__(weights, activations)
        self.in_features = in_features
        self.out_features = out_features

    @classmethod
    def from_float(
        cls, module: nn.Module, weights: QuantArgs, activations: QuantArgs | None
    ) -> Self:
        assert isinstance(module, nn.Linear)
        made = cls(module.in_features, module.out_features, weights, activations)
        made.weight = module.weight
        made.bias = module.bias
        made.input_transform = getattr(module, "input_transform", None)
        return made.train(module.training)

    def to_float(self) -> nn.Linear:
        if self.input_transform is not None:
            like = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
            like.bias = self.bias  # type: ignore[assignment]
            return TransformedLinear.from_linear(like, self.weight.detach(), self.input_transform)
        made = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        made.weight, made.bias = self.weight, self.bias  # type: ignore[assignment]
        return made

    def apply_float(self, x: Tensor, weight: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, weight, self.bias)

    def apply_frozen(self, x: Tensor) -> Tensor:
        buffers = self._buffers
        return self._run(
            x,
            buffers["weight"],
            buffers["weight_scale"],
            self.bias,
            buffers["input_scale"],
            buffers["multiplier"],
        )

    def prepare(self) -> None:
        weight = self._buffers["weight"]
        assert weight is not None
        multiplier = self.input_transform
        if self.input_scale is not None:
            ones = torch.ones(1, device=weight.device)
            multiplier = (ones if multiplier is None else multiplier) / self.input_scale
        self.multiplier = multiplier
        implementation, self.op_reason = ops.select(weight.device.type)
        self.op = implementation.name
        self._run = getattr(torch.ops.workbench, implementation.name).default

    def extra_repr(self) -> str:
        inputs = "none" if self.activations is None else self.activations.granularity
        state = f"frozen, {self.op}" if self.frozen else "not frozen"
        return f"{self.in_features}, {self.out_features}, activations per {inputs}, {state}"
