"""The error that one alpha leaves in the layers of one input, measured on tokens that were kept."""

from dataclasses import dataclass

import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.metrics import sqnr_db
from workbench.observe import Statistics
from workbench.quant import QuantArgs
from workbench.recipe import Recipe, group_alphas, layer_bits
from workbench.recipe.code import activations_of
from workbench.smooth.fold import entry_scales
from workbench.smooth.rounded import oriented, rounded
from workbench.tune.candidates import with_bits


@dataclass(frozen=True)
class LocalError:
    """SQNR in dB of the outputs of all layers that read `group`, rounded with `alpha`."""

    group: str
    alpha: float | None
    sqnr_db: float
    tokens: int


@torch.inference_mode()
def local_error(model: nn.Module, statistics: Statistics, recipe: Recipe, group: str) -> LocalError:
    """Smooth and round weights and inputs as `recipe` says, for the sampled tokens of one input.

    Raises WorkbenchError for an input that was not observed.
    """
    if group not in statistics.entries:
        raise WorkbenchError(
            f"no input {group!r} was observed; choose one of: {', '.join(statistics.entries)}"
        )
    entry = statistics[group]
    alpha = group_alphas(recipe, {group: entry.group.readers})[group]
    scales = torch.ones_like(entry.absmax)
    if alpha is not None:
        scales = entry_scales(entry, alpha, shared=entry.foldable)
    x = entry.sample.float()
    expected, found = [], []
    for name, weights in _weights(recipe, list(entry.linears)).items():
        linear = oriented(model.get_submodule(name))
        expected.append(linear(x))
        if weights is None:
            found.append(expected[-1])
        else:
            made = rounded(linear, name, entry, scales, weights, activations_of(recipe))
            found.append(made(x))
    left = sqnr_db(torch.cat(expected, -1), torch.cat(found, -1))
    return LocalError(group, alpha, left, len(x))


def _weights(recipe: Recipe, names: list[str]) -> dict[str, QuantArgs | None]:
    """The weight arguments of each layer; those of all layers where bits are still to be found."""
    common = recipe.quantization.weights
    if recipe.quantization.bits == "auto" or common.qtype.is_float:
        return dict.fromkeys(names, common)
    bits = layer_bits(recipe, names)
    return {n: None if b is None else with_bits(common, b) for n, b in bits.items()}
