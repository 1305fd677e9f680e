"""torch's recurrent layers, which hand all their weights to one call at a time."""

from typing import Any

from torch import Tensor, nn

from workbench.quant.modules.parameters import QParameters
from workbench.quant.modules.registry import register_qmodule


@register_qmodule(nn.LSTM, nn.GRU, nn.RNN)
class QRecurrent(QParameters):
    """A quantized `nn.LSTM`, `nn.GRU` or `nn.RNN`; weight-only."""

    _flat_weights_names: list[str]

    @classmethod
    def names_in(cls, module: nn.Module) -> tuple[str, ...]:
        return tuple(name for name in module._parameters if name.startswith("weight_"))

    def _setup(self, *arguments: Any) -> None:
        vars(self).pop("_flat_weights", None)  # or they would keep the float weights alive
        super()._setup(*arguments)

    @property
    def _flat_weights(self) -> list[Tensor]:
        """What torch's forward computes with."""
        return [
            self.weight_now(name) if name in self.shapes else getattr(self, name)
            for name in self._flat_weights_names
        ]

    @_flat_weights.setter
    def _flat_weights(self, _: list[Tensor]) -> None:
        """Moving the layer sets them; here they follow from the parameters."""

    def flatten_parameters(self) -> None:
        """Nothing to lay out for cuDNN: the weights are made anew at every call."""

    def to_float(self) -> nn.Module:
        made: Any = super().to_float()
        made._flat_weights = [getattr(made, name) for name in self._flat_weights_names]
        return made  # type: ignore[no-any-return]
