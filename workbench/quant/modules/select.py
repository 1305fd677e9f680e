"""Which quantized class stands for a float module."""

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from workbench.quant.args import QuantArgs
from workbench.quant.modules.base import QModule
from workbench.quant.modules.inputs import QInputs
from workbench.quant.modules.norm import QLayerNorm
from workbench.quant.modules.parameters import QExperts
from workbench.quant.modules.registry import class_name, registry


def qmodule_for(module: nn.Module) -> type[QModule] | None:
    """The quantized class for `module`, or None where it stays in float.

    transformers keeps the experts of a mixture in classes of many names, all of which end in
    "Experts"; what tells them is that name and three-dimensional parameters.
    """
    if isinstance(module, QModule):
        return None
    for float_class in type(module).__mro__:
        found = registry.get(class_name(float_class))
        if found is not None:
            return found if _has_weights(module, found) else None
    if type(module).__name__.endswith("Experts") and QExperts.names_in(module):
        return QExperts
    return None


def class_for(module: nn.Module, weights: QuantArgs | None) -> type[QModule] | None:
    """The quantized class for `module` with such `weights`; with none it rounds activations only.

    None where there is no such class.
    """
    found = qmodule_for(module)
    if weights is not None:
        return found
    if is_norm(module):
        return QLayerNorm
    return QInputs if found is not None and found.rounds_activations else None


def _has_weights(module: nn.Module, found: type[QModule]) -> bool:
    """Whether all the weights are there, floats and not empty; attention may keep them apart."""
    weights = [
        getattr(module, name) if is_parametrized(module, name) else module._parameters.get(name)
        for name in found.names_in(module)
    ]
    return bool(weights) and all(
        w is not None and w.is_floating_point() and w.numel() for w in weights
    )


def is_norm(module: nn.Module) -> bool:
    """Whether `module` is a layer norm of some kind: so named, with one gain for each channel."""
    gain = module._parameters.get("weight")
    kind = type(module).__name__
    named = "Norm" in kind and not kind.startswith(("BatchNorm", "GroupNorm", "InstanceNorm"))
    return named and gain is not None and gain.dim() == 1 and not isinstance(module, QModule)
