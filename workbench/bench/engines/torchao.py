"""torchao, in eager mode."""

from collections.abc import Callable

from torch import nn

from workbench.bench.engines.base import ModuleEngine
from workbench.bench.schemes import Scheme


class TorchAo(ModuleEngine):
    """torchao in 8 bits; the int4 layouts of its 0.18 want a GPU."""

    name = "torchao"
    package = "torchao"
    install = "pip install 'quantization-workbench[peers]'"
    ops = encoder_ops = decoder_ops = ("w8a8", "w8")

    def convert(
        self, model: nn.Module, scheme: Scheme, calibrate: Callable[[nn.Module], object]
    ) -> nn.Module:
        del calibrate
        from torchao import quantization as ao

        weight_only = scheme.activations == "float"
        kind = ao.Int8WeightOnlyConfig if weight_only else ao.Int8DynamicActivationInt8WeightConfig
        ao.quantize_(model.requires_grad_(False), kind(set_inductor_config=False))
        return model
