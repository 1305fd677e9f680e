"""This project, through the verbs that its users call."""

from collections.abc import Callable

from torch import Tensor, nn

from workbench.bench.engines.base import ModuleEngine, ModuleLayer, Run
from workbench.bench.engines.tensors import duplicate, plain
from workbench.bench.schemes import Scheme
from workbench.ops import pages
from workbench.quant import Calibration, MaxOptimizer, QModule, QuantArgs, freeze, quantize

ACTIVATIONS = {
    "float": None,
    "token": QuantArgs(dtype="int8", granularity="token", dynamic=True),
    "tensor": QuantArgs(dtype="int8", granularity="tensor"),
}


class PackedLayer(ModuleLayer):
    """A layer whose copies lie on large pages, as freezing puts the first one there."""

    def bind(self, x: Tensor, threads: int) -> Run:
        del threads
        module = duplicate(self.module)
        for held in module.modules():
            if isinstance(held, QModule) and held.panels is not None:
                held.panels = pages.copied(held.panels)
        return Run(lambda: module(x), plain)


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

    def layer(self, linear: nn.Linear, scheme: Scheme, x: Tensor) -> PackedLayer:
        made = super().layer(linear, scheme, x)
        return PackedLayer(made.module, made.detail)

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
