"""Bias correction: take the mean error of the output out of it."""

from dataclasses import dataclass

from workbench.tune.algorithm import Algorithm, register_algorithm
from workbench.tune.layer import Layer


@register_algorithm("bias_correction")
@dataclass(frozen=True)
class BiasCorrection(Algorithm):
    """Add `(W - W_rounded) E[x]` to the bias, if there is one (arXiv:1906.04721, section 4.2)."""

    def __call__(self, layer: Layer) -> None:
        if layer.bias is None:
            layer.notes.append("it has no bias to correct")
            return
        shift = (layer.weight - layer.result).double() @ layer.inputs.mean.double()
        layer.bias = (layer.bias.detach().double() + shift).float()
