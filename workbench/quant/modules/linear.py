"""The quantized linear layer, also as GPT-2 writes it."""

import torch
from torch import Tensor, nn

from workbench import ops
from workbench.ops import native
from workbench.ops.linear import Arguments
from workbench.ops.watched import is_watched
from workbench.quant.modules.base import QModule
from workbench.quant.modules.registry import register_qmodule
from workbench.quant.modules.transformed import TransformedLinear, transformed


class _Matrix(QModule):
    """`y = x W^T + b`; `workbench.ops` has the arithmetic of the frozen layer."""

    bias: Tensor | None

    def apply_linear(self, x: Tensor) -> Tensor:
        """What the layer does, frozen or not."""
        if not self.frozen:
            taken = self.take_input(x)
            return torch.nn.functional.linear(taken, self.oriented(self.weight_now()), self.bias)
        step, multiplier = None, self._buffers["multiplier"]
        if self.integer_inputs:
            step, multiplier = self._input_numbers(x)
        elif self.activations is not None:
            x = self.take_input(x)
        bias = self._parameters["bias"]
        given = Arguments(x, *self.stored_weight(), bias, step, multiplier)
        return self._run(*given) if is_watched(x, bias) else self._function(given)

    @property
    def slot_shape(self) -> tuple[int]:
        return (self.shapes["weight"][1],)

    def to_float(self) -> nn.Module:
        return transformed(super().to_float(), self.input_transform)

    def prepare(self) -> None:
        assert self.weights is not None
        scale = self._buffers["weight_scale"]
        assert scale is not None
        self._bits = self.weights.qtype.bits
        self.integer_inputs = self._multiplies_integers()
        device, layer = scale.device.type, self._layer(scale)
        if self.integer_inputs:
            op = "a8_linear"
        else:
            op = self.arithmetic = self.arithmetic or _arithmetic(device, layer)
        chosen, self.op_reason = ops.select(op, device, layer, self.pinned)
        self.op, self._run, self._function = chosen.name, chosen.overload, chosen.function
        self.hold_panels(chosen.panels, self._bits)
        self._buffers["multiplier"] = self._multiplier()

    def _multiplier(self) -> Tensor | None:
        """What the op multiplies inputs by: the slot, and the inverse of a static step."""
        transform, step = self.input_transform, self._buffers["input_scale"]
        if self.integer_inputs and step is not None:
            return step.reciprocal() if transform is None else transform / step
        # Inputs that are rounded in float go through the slot before.
        return transform if self.integer_inputs or self.activations is None else None

    def _layer(self, scale: Tensor) -> ops.Layer:
        assert self.weights is not None
        rows, columns = self.shapes["weight"]
        groups = 1 if scale.dim() < 2 else scale.shape[1]
        kind, affine = self.weights.qtype, self._buffers.get("weight_zero_point") is not None
        return ops.Layer(rows, columns, kind.bits, groups, affine, kind.is_float, scale.dim() < 2)

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
        """Whether the weight is of integers that kernels know and the input of symmetric int8."""
        w, a = self.weights, self.activations
        return (
            w is not None
            and a is not None
            and not w.qtype.is_float
            and w.qtype.bits in native.BITS
            and a.dtype == "int8"
            and a.symmetric
        )


def _arithmetic(device: str, layer: ops.Layer) -> str:
    """The op for float inputs where nothing was decided: the native one if it can."""
    native_one = next(o for o in ops.implementations if o.name == "weight_only_linear_native")
    able = native_one.obstacle(device, layer) is None
    return native_one.op if able else "dequantized_linear"


# FalconLinear multiplies by the weight itself; as a plain linear it computes the same.
@register_qmodule(
    nn.Linear, TransformedLinear, "transformers.models.falcon.modeling_falcon.FalconLinear"
)
class QLinear(_Matrix, nn.Linear):  # type: ignore[misc] # torch says bias is no None
    """A quantized `nn.Linear`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's own name
        return self.give_output(self.apply_linear(input))


@register_qmodule(
    "transformers.pytorch_utils.Conv1D",
    "workbench.quant.modules.transformed_conv1d.TransformedConv1D",
)
class QConv1D(_Matrix):
    """A quantized transformers `Conv1D`, whose weight is [in, out]."""

    transposed = True

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_linear(x)
