"""Norms whose outputs are quantized."""

from typing import Any

from torch import Tensor, nn

from workbench.quant.modules.base import QModule


class QLayerNorm(QModule):
    """A norm, of any class, with quantized outputs and its gain in float."""

    weight_names = ()
    side = "output"

    @classmethod
    def bases_for(cls, float_class: type[nn.Module]) -> tuple[type, ...]:
        return (cls, float_class)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.take_activation(super().forward(*args, **kwargs))
