"""Layers whose inputs are quantized and whose weights stay in float."""

from typing import Any

from torch import Tensor, nn

from workbench.quant.modules.base import QModule
from workbench.quant.modules.transformed import Transformed, transformed, transformed_class


class QInputs(QModule):
    """A layer with one input, of any class, that rounds it and keeps its weights in float."""

    weight_names = ()

    @classmethod
    def bases_for(cls, float_class: type[nn.Module]) -> tuple[type, ...]:
        # The slot does what a transformed linear did, before rounding.
        return (cls, float_class.plain if issubclass(float_class, Transformed) else float_class)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        named = {name: self.take_input(x) for name, x in kwargs.items()}
        return self.give_output(super().forward(*map(self.take_input, args), **named))

    @property
    def slot_shape(self) -> tuple[int] | None:
        width = getattr(self, "in_features", getattr(self, "nx", None))
        return None if width is None or transformed_class(self) is None else (width,)

    def to_float(self) -> nn.Module:
        return transformed(super().to_float(), self.input_transform)
