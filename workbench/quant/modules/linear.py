"""The quantized linear layer, also as GPT-2 writes it."""

import torch
from torch import Tensor, nn

from workbench import ops
from workbench.quant.modules.base import QModule
from workbench.quant.modules.registry import register_qmodule
from workbench.quant.modules.transformed import TransformedLinear


class _Matrix(QModule):
    """`y = x W^T + b`; `workbench.ops` has the arithmetic of the frozen layer."""

    bias: Tensor | None

    def apply_linear(self, x: Tensor) -> Tensor:
        """What the layer does, frozen or not."""
        if not self.frozen:
            taken = self.take_input(x)
            return torch.nn.functional.linear(taken, self.oriented(self.weight_now()), self.bias)
        buffers = self._buffers
        data = buffers["weight_packed"] if self._packed else buffers["weight"]
        scale = buffers["weight_scale"]
        if self._integers:
            return self._run(x, data, scale, self.bias, *self._input_numbers(x))
        assert self.weights is not None
        point = buffers.get("weight_zero_point")
        bits, columns = self.weights.qtype.bits, self.shapes["weight"][1]
        return self._run(self.take_input(x), data, scale, point, bits, columns, self.bias)

    @property
    def slot_shape(self) -> tuple[int]:
        return (self.shapes["weight"][1],)

    def prepare(self) -> None:
        self._packed = self.weights is not None and self.weights.qtype.packed
        self._integers = self._multiplies_integers()
        chosen, self.op_reason = ops.select(
            "w8a8_linear" if self._integers else "weight_only_linear",
            self._buffers["weight_scale"].device.type,  # type: ignore[union-attr]
        )
        self.op, self._run = chosen.name, chosen.overload
        multiplier, scale = self.input_transform, self._buffers["input_scale"]
        if self._integers and scale is not None:
            multiplier = scale.reciprocal() if multiplier is None else multiplier / scale
        self._buffers["multiplier"] = multiplier if self._integers else None

    def _input_numbers(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What the integer product multiplies inputs by, and their scale unless it is per token."""
        scale, multiplier = self._buffers["input_scale"], self._buffers["multiplier"]
        assert self.activations is not None
        if self.static or self.activations.granularity == "token":
            return scale, multiplier
        taken = x.float() if multiplier is None else x * multiplier
        scale = taken.abs().amax().div(127).clamp_min(1e-30).reshape(1)
        return scale, scale.reciprocal() if multiplier is None else multiplier / scale

    def _multiplies_integers(self) -> bool:
        """Whether weight and input are both int8 as the integer product wants them."""
        w, a = self.weights, self.activations
        return (
            w is not None
            and a is not None
            and w.dtype == a.dtype == "int8"
            and w.symmetric
            and a.symmetric
            and w.granularity in ("tensor", "channel")
        )


# FalconLinear multiplies by the weight itself; as a plain linear it computes the same.
@register_qmodule(
    nn.Linear, TransformedLinear, "transformers.models.falcon.modeling_falcon.FalconLinear"
)
class QLinear(_Matrix, nn.Linear):  # type: ignore[misc] # torch says bias is no None
    """A quantized `nn.Linear`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's own name
        return self.apply_linear(input)

    def to_float(self) -> nn.Module:
        made = super().to_float()
        if self.input_transform is not None:
            made.__class__ = TransformedLinear
            made.register_buffer("input_transform", self.input_transform)
        return made


@register_qmodule("transformers.pytorch_utils.Conv1D")
class QConv1D(_Matrix):
    """A quantized transformers `Conv1D`, whose weight is [in, out]."""

    transposed = True

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_linear(x)
