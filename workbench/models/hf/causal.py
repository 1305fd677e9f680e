"""quanto's class for quantized language models, so that its users' scripts go on working."""

from pathlib import Path
from typing import Any, Self

from torch import nn

from workbench.errors import WorkbenchError
from workbench.models.hf.quantizer import attach
from workbench.quant import QModule, freeze, quantize
from workbench.quant.args import ArgsLike
from workbench.quant.freeze import Uncalibrated
from workbench.quant.optimizers import Optimizer
from workbench.quant.quantize import Patterns


class QuantizedModelForCausalLM:
    """A frozen language model of transformers; every attribute it lacks is the model's."""

    def __init__(self, model: Any) -> None:
        modules = model.modules() if isinstance(model, nn.Module) else ()
        if not any(isinstance(module, QModule) for module in modules):
            raise WorkbenchError(
                "this is no quantized transformers model: use QuantizedModelForCausalLM.quantize"
            )
        self._wrapped = model

    @classmethod
    def quantize(
        cls,
        model: Any,
        weights: ArgsLike = "int8",
        activations: ArgsLike = None,
        optimizer: Optimizer | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        *,
        uncalibrated: Uncalibrated = "error",
    ) -> Self:
        """Quantize `model` in place and freeze it; the arguments are those of `quantize`, `freeze`.

        Static activations need a calibration that this has no data for, which quanto froze at
        scale 1 without a word: here it raises WorkbenchError unless `uncalibrated` says otherwise.
        """
        quantize(model, weights, activations, optimizer, include, exclude)
        freeze(model, uncalibrated)
        return cls(model)

    @classmethod
    def from_pretrained(cls, name: Path | str) -> Self:
        """Load what `save_pretrained`, `workbench.save` or quanto wrote."""
        from workbench.models.load import load

        return cls(load(name).model)

    def save_pretrained(self, folder: Path | str, **kwargs: Any) -> None:
        """Write the model as transformers does, in a format that `from_pretrained` reads."""
        attach(self._wrapped)
        self._wrapped.save_pretrained(folder, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "_wrapped":  # copying and unpickling ask before there is one
            raise AttributeError(name)
        return getattr(self._wrapped, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._wrapped(*args, **kwargs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._wrapped!r})"
