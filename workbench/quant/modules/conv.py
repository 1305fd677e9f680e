"""Quantized convolutions."""

from torch import Tensor, nn

from workbench.quant.modules.base import QModule
from workbench.quant.modules.registry import register_qmodule


@register_qmodule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
class QConv(QModule):
    """A quantized `nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d`; one input channel is a token's part."""

    bias: Tensor | None

    @classmethod
    def bases_for(cls, float_class: type[nn.Module]) -> tuple[type, ...]:
        plain = next(c for c in float_class.__mro__ if c in (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        if plain is float_class:
            return (cls, float_class)
        return (float_class, type(cls.__name__, (cls, plain), {}))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Conv1d's own name
        taken = self.take_input(input)
        return self._conv_forward(taken, self.weight_now(), self.bias)  # type: ignore[no-any-return, operator]
