"""optimum-quanto."""

from collections.abc import Callable

from torch import nn

from workbench.bench.engines.base import ModuleEngine
from workbench.bench.schemes import Scheme
from workbench.errors import WorkbenchError


class Quanto(ModuleEngine):
    """optimum-quanto: activations per tensor, calibrated; groups of 128 below 8 bits."""

    name = "quanto"
    package = "optimum"
    install = "pip install 'quantization-workbench[peers]'"
    ops = encoder_ops = decoder_ops = ("w8a8-static", "w8", "w4", "w2")

    def convert(
        self, model: nn.Module, scheme: Scheme, calibrate: Callable[[nn.Module], object]
    ) -> nn.Module:
        from optimum import quanto

        if scheme.group_size not in (None, 128):
            raise WorkbenchError(f"quanto groups by 128, not by {scheme.group_size}")
        weights = {8: quanto.qint8, 4: quanto.qint4, 2: quanto.qint2}[scheme.bits]
        static = scheme.activations == "tensor"
        quanto.quantize(model, weights=weights, activations=quanto.qint8 if static else None)
        if static:
            with quanto.Calibration():
                calibrate(model)
        quanto.freeze(model)
        return model
