"""What each layer could become: its bytes at every width, and why a width is refused."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from workbench.errors import WorkbenchError
from workbench.quant import QuantArgs
from workbench.quant.modules import QConv1D, QLinear, qmodule_for
from workbench.quant.quantize import select_modules
from workbench.tune import WIDTHS, Sensitivity
from workbench.tune.candidates import stored_bytes, with_bits


@dataclass(frozen=True)
class LayerChoices:
    """One linear: its weights, their bytes in float and by bits, and why other bits are refused."""

    name: str
    parameters: int
    float_bytes: int
    bytes: dict[int, int]
    refused: dict[int, str]


def layer_choices(model: nn.Module, weights: QuantArgs) -> list[LayerChoices]:
    """The linears of the float `model` in order, and what `weights` can be in each."""
    able = select_modules(model)
    return [
        _choices(name, module, weights, tied=name not in able)
        for name, module in model.named_modules()
        if issubclass(qmodule_for(module) or object, QLinear | QConv1D)
    ]


def _choices(name: str, module: nn.Module, weights: QuantArgs, *, tied: bool) -> LayerChoices:
    weight = module._parameters["weight"]
    assert weight is not None
    rows, columns = weight.shape if isinstance(module, nn.Linear) else reversed(weight.shape)
    sizes: dict[int, int] = {}
    refused = {16: "no 16-bit weights: skip leaves the layer in float"}
    for bits in WIDTHS:
        try:
            if tied:
                raise WorkbenchError("its weight is the embedding's too, and stays in float")
            if weights.qtype.is_float:
                raise WorkbenchError(f"the recipe's weights are {weights.dtype}, no integers")
            sizes[bits] = stored_bytes((rows, columns), with_bits(weights, bits))
        except WorkbenchError as error:
            refused[bits] = str(error)
    return LayerChoices(name, weight.numel(), weight.numel() * 4, sizes, refused)


def restricted(found: Sensitivity, names: Iterable[str]) -> Sensitivity:
    """The sensitivity of some of its layers."""
    kept = [name for name in names if name in found.layers]
    shared = [tuple(name for name in group if name in kept) for group in found.shared]
    return found.model_copy(
        update={
            "layers": {name: found.layers[name] for name in kept},
            "parameters": {name: found.parameters[name] for name in kept},
            "shared": [group for group in shared if len(group) > 1],
        }
    )
