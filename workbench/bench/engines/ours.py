"""This project, through the verbs that its users call."""

from collections.abc import Callable

from torch import nn

from workbench.bench.engines.base import ModuleEngine
from workbench.bench.schemes import Scheme
from workbench.quant import Calibration, MaxOptimizer, QModule, QuantArgs, freeze, quantize

ACTIVATIONS = {
    "float": None,
    "token": QuantArgs(dtype="int8", granularity="token", dynamic=True),
    "tensor": QuantArgs(dtype="int8", granularity="tensor"),
}


class Workbench(ModuleEngine):
    """Layers as `workbench.quantize` and `workbench.freeze` leave them.

    Weights keep all of their range (`MaxOptimizer`): then the arithmetic follows from the weights
    alone, and the benchmark can derive what SQNR each row must have.
    """

    name = "workbench"
    package = "workbench"
    install = "pip install quantization-workbench"
    ops = encoder_ops = decoder_ops = ("w8a8", "w8a8-static", "w8", "w4", "w4a8", "w2", "w2a8")
    ours = True
    backend = "workbench"

    def convert(
        self, model: nn.Module, scheme: Scheme, calibrate: Callable[[nn.Module], object]
    ) -> nn.Module:
        quantize(
            model,
            weights=weight_args(scheme),
            activations=ACTIVATIONS[scheme.activations],
            optimizer=MaxOptimizer(),
        )
        if scheme.activations == "tensor":
            with Calibration(model):
                calibrate(model)
        freeze(model)
        return model

    def detail(self, model: nn.Module) -> str:
        return ", ".join(sorted({m.op for m in model.modules() if isinstance(m, QModule)}))


def weight_args(scheme: Scheme) -> QuantArgs:
    """What `quantize` makes of bare `int8`, `int4` and `int2`, the group size said."""
    if scheme.group_size is None:
        return QuantArgs(dtype=f"int{scheme.bits}")
    return QuantArgs(
        dtype=f"int{scheme.bits}",
        granularity="group",
        group_size=scheme.group_size,
        symmetric=False,
    )
