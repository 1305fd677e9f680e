"""Activations of a quantized module: observed in calibration, rounded otherwise."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from workbench.quant.args import QuantArgs
from workbench.quant.calibration import active_calibration
from workbench.quant.observers import Observer, observers
from workbench.quant.rounding import from_grid, numbers_for, to_grid


class QActivations(nn.Module):
    """The half of a quantized module that deals with activations, of one `side` of it.

    Frozen, and static, it holds `input_scale` float32 [1] and, where affine, `input_zero_point`
    ("output_..." for norms). Where the slot is in use, `input_transform` float32 [in] is what the
    input is multiplied by first. A layer that quanto wrote may round what it puts out as well, to
    the numbers `outputs` by `output_scale` float32 [1].
    """

    side: ClassVar[str] = "input"  # what `activations` are: inputs, or the outputs of norms
    rounds_activations: ClassVar[bool] = True

    activations: QuantArgs | None
    observer: Observer | None
    input_transform: Tensor | None
    frozen: bool
    outputs: QuantArgs | None = None

    def _setup_activations(self, activations: QuantArgs | None) -> None:
        self.activations = activations = activations if self.rounds_activations else None
        self.observer = observers[activations.observer]() if activations else None
        for buffer in (f"{self.side}_scale", f"{self.side}_zero_point", "input_transform"):
            self._buffers.setdefault(buffer, None)

    @property
    def static(self) -> bool:
        """Whether activations have one scale that calibration must find."""
        return self.activations is not None and not self.activations.dynamic

    @property
    def calibrated(self) -> bool:
        """Whether a static range is known, or none is needed."""
        seen = self.observer is not None and self.observer.seen
        return not self.static or self.frozen or seen

    def take_input(self, x: Tensor) -> Tensor:
        """Put `x` through the slot; observe it in calibration, round it otherwise."""
        if self.input_transform is not None:
            x = (x * self.input_transform).to(x.dtype)
        return self.take_activation(x)

    def take_activation(self, x: Tensor) -> Tensor:
        """Observe `x` in calibration, round it otherwise."""
        calibration = None if self.frozen else active_calibration(self)
        if calibration is None:
            return self.fake_quantize_activation(x)
        if self.observer is not None and self.static:
            calibration.watch(self, self.observer, x)
        return x

    def activation_numbers(self, x: Tensor) -> tuple[Tensor, Tensor | None] | None:
        """Scale and zero point for float32 `x`; None where they are static and not known yet."""
        args = self.activations
        assert args is not None
        name = f"{self.side}_scale"
        learned = self._parameters.get(name)  # in quantization-aware training
        scale = self._buffers.get(name) if learned is None else learned
        if self.static and scale is not None:
            return scale, self._buffers[f"{self.side}_zero_point"]
        if args.dynamic:
            dims = (-1,) if args.granularity == "token" else tuple(range(x.dim()))
            values = x.detach()
            low, high = values.amin(dims, keepdim=True), values.amax(dims, keepdim=True)
        elif self.observer is not None and self.observer.seen:
            low, high = (end.to(x.device).reshape(1) for end in self.observer.range(args))
        else:
            return None
        return numbers_for(low, high, args.qtype, not args.symmetric)

    def fake_quantize_activation(self, x: Tensor) -> Tensor:
        """The activation as integers stand for it, with a straight-through gradient."""
        if self.activations is None or x.numel() == 0:
            return x
        values = x.float()
        numbers = self.activation_numbers(values)
        if numbers is None:
            return x  # not calibrated yet: freeze will say so
        rounded = from_grid(to_grid(values, *numbers, self.activations.qtype), *numbers)
        return rounded.to(x.dtype)

    def give_output(self, y: Tensor) -> Tensor:
        """Round what the frozen layer puts out, where it does."""
        scale = self._buffers.get("output_scale")
        if self.outputs is None or scale is None:
            return y
        rounded = from_grid(to_grid(y.float(), scale, None, self.outputs.qtype), scale, None)
        return rounded.to(y.dtype)

    def _static_numbers(self) -> tuple[Tensor, Tensor | None] | None:
        """The numbers that calibration or training found, where the parameters are."""
        return self.activation_numbers(next(self.parameters()).new_empty(0))

    def _freeze_activations(self) -> None:
        found = self._static_numbers() if self.static else None
        if found is not None:
            self._parameters.pop(f"{self.side}_scale", None)
            self._buffers[f"{self.side}_scale"] = found[0].detach().reshape(1)
            point = None if found[1] is None else found[1].reshape(1)
            self._buffers[f"{self.side}_zero_point"] = point

    def _empty_activations(self) -> None:
        if self.static and self.activations is not None:
            self._buffers[f"{self.side}_scale"] = torch.empty(1)
            if not self.activations.symmetric:
                self._buffers[f"{self.side}_zero_point"] = torch.empty(1)
        if self.outputs is not None:
            self._buffers["output_scale"] = torch.empty(1)
