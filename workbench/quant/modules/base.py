"""What every quantized module shares: the input slot, calibration, freezing, and a registry."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from workbench.quant.args import QuantArgs
from workbench.quant.calibration import active_calibration
from workbench.quant.observers import observers
from workbench.quant.tensor import QTensor


class QModule(nn.Module, ABC):
    """A module with quantized weights and, if asked, quantized inputs.

    Until it is frozen it holds its float weight, quantizes it anew on each forward and passes
    gradients straight through. Frozen, it holds plain buffers under the names they have on disk:

    * `weight`          int8 [out, in]; read as an attribute it is a `QTensor` view
    * `weight_scale`    float32 [out, 1]
    * `input_scale`     float32 [1], where activations are static
    * `input_transform` float32 [in], the slot: what the input is multiplied by first; optional
    """

    input_transform: Tensor | None
    input_scale: Tensor | None
    multiplier: Tensor | None
    _KEPT_FLOAT32 = ("weight_scale", "input_scale", "input_transform", "multiplier")

    def __init__(self, weights: QuantArgs, activations: QuantArgs | None) -> None:
        super().__init__()
        self.weights = weights
        self.activations = activations
        self.observer = observers[activations.observer]() if activations else None
        self.frozen = False
        self.op = ""
        self.op_reason = ""
        self.register_buffer("input_transform", None)
        self.register_buffer("input_scale", None)
        self.register_buffer("multiplier", None, persistent=False)

    @classmethod
    @abstractmethod
    def from_float(
        cls, module: nn.Module, weights: QuantArgs, activations: QuantArgs | None
    ) -> Self:
        """Make the unfrozen quantized twin of `module`, sharing its parameters."""

    @abstractmethod
    def to_float(self) -> nn.Module:
        """The float module with this one's (unfrozen) weight and input transform."""

    @abstractmethod
    def apply_float(self, x: Tensor, weight: Tensor) -> Tensor:
        """What the float module does to its (transformed) input with the given weight."""

    @abstractmethod
    def apply_frozen(self, x: Tensor) -> Tensor:
        """The quantized operation."""

    def prepare(self) -> None:
        """Derive what the frozen forward needs from the buffers; called by freezing and loading."""

    @property
    def static(self) -> bool:
        """Whether the input has one scale that calibration must find."""
        return self.activations is not None and not self.activations.dynamic

    @property
    def calibrated(self) -> bool:
        """Whether a static input scale is known, or none is needed."""
        return (
            not self.static
            or self.frozen
            or (self.observer is not None and self.observer.absmax is not None)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.frozen:
            return self.apply_frozen(x)
        transformed = x if self.input_transform is None else x * self.input_transform.to(x.dtype)
        calibration = active_calibration(self)
        if calibration is not None:
            if self.observer is not None:
                self.observer.update(calibration.absmax(transformed), calibration.momentum)
            return self.apply_float(transformed, self.weight)
        return self.apply_float(self.fake_quantize_input(transformed), self.fake_quantize_weight())

    def fake_quantize_weight(self) -> Tensor:
        """The weight as it will be after freezing, with a straight-through gradient."""
        data, scale = self.quantize_weight()
        return straight_through(self.weight, data * scale)

    def fake_quantize_input(self, x: Tensor) -> Tensor:
        """The (transformed) input as it is after freezing, with a straight-through gradient."""
        if self.activations is None:
            return x
        values = x.detach().float()
        if self.activations.dynamic:
            scale = values.abs().amax(-1, keepdim=True).div(127).clamp_min(1e-30)
        elif self.observer is not None and self.observer.absmax is not None:
            scale = scale_for(self.observer.absmax)
        else:
            return x  # not calibrated yet: freeze will say so
        return straight_through(x, (values / scale).round().clamp(-128, 127) * scale)

    def quantize_weight(self) -> tuple[Tensor, Tensor]:
        """Round the float weight [out, ...]; return integers as floats and the scale [out, 1]."""
        weight = self.weight.detach().float()
        qmax = self.weights.qtype.qmax
        scale = scale_for(weight.flatten(1).abs().amax(1, keepdim=True), qmax)
        return (weight / scale).round().clamp(-qmax, qmax), scale

    @torch.no_grad()
    def freeze(self) -> None:
        """Replace the float weight by integers; the module computes with them from now on."""
        if self.frozen:
            return
        data, scale = self.quantize_weight()
        del self.weight
        self.register_buffer("weight", data.to(self.weights.qtype.storage))
        self.register_buffer("weight_scale", scale)
        if self.observer is not None and self.static and self.observer.absmax is not None:
            self.input_scale = scale_for(self.observer.absmax).reshape(1)
        self.become_frozen()

    def become_frozen(self) -> None:
        """Switch to the frozen forward; the buffers are in place."""
        self.observer = None
        self.frozen = True
        self.prepare()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move as any module does, but keep scales in float32: rounding one changes every value."""
        kept = {n: b for n in self._KEPT_FLOAT32 if (b := self._buffers.get(n)) is not None}
        super()._apply(fn, recurse)
        for name, before in kept.items():
            after = self._buffers[name]
            if after is not None and after.dtype != torch.float32:
                self._buffers[name] = before.to(after.device)
        if self.frozen:
            self.prepare()
        return self

    def __getattr__(self, name: str) -> Any:
        if name == "weight" and "weight" in self._buffers:
            return QTensor(self._buffers["weight"], self._buffers["weight_scale"])  # type: ignore[arg-type]
        return super().__getattr__(name)


def scale_for(absmax: Tensor, qmax: int = 127) -> Tensor:
    """The step that maps [-absmax, absmax] onto [-qmax, qmax]; 1 where all values are zero."""
    return torch.where(absmax > 0, absmax / qmax, torch.ones_like(absmax))


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """The values of `rounded` with the gradient of `x` (Bengio et al., 2013, arXiv:1308.3432)."""
    rounded = rounded.to(x.dtype)
    return x + (rounded - x).detach() if x.requires_grad else rounded


_registry: dict[type[nn.Module], type[QModule]] = {}
Q = TypeVar("Q", bound=type[QModule])


def register_qmodule(float_class: type[nn.Module]) -> Callable[[Q], Q]:
    """Class decorator: quantize modules of exactly `float_class` with the decorated class."""

    def decorate(quantized_class: Q) -> Q:
        _registry[float_class] = quantized_class
        return quantized_class

    return decorate


def qmodule_for(module: nn.Module) -> type[QModule] | None:
    """The quantized class for `module`, or None where it stays in float."""
    return _registry.get(type(module))
