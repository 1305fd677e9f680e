"""Quantizing each weight of a float checkpoint as soon as it is read."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from transformers.core_model_loading import ConversionOps

from workbench.models.hf.config import WorkbenchConfig
from workbench.models.hf.shield import shield, unshield
from workbench.ops.mapped import release
from workbench.quant import QModule, freeze, quantize
from workbench.quant.quantize import check_finite, quantized_modules, select_modules


def is_quantized_on_load(model: Any, name: str) -> bool:
    """Whether the parameter `name` is to be quantized when it comes.

    Not so the weights of layers that calibration must see in float, and tied ones, which may come
    under another name.
    """
    owner, _, last = name.rpartition(".")
    module = model.get_submodule(owner)
    if not isinstance(module, QModule) or last not in module.weight_names:
        return False
    ties = getattr(model, "all_tied_weights_keys", {})
    return not module.static and name not in ties and name not in ties.values()


class QuantizeOnLoad(ConversionOps):
    """Replaces one float weight by its integers."""

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        **kwargs: Any,
    ) -> dict[str, list[Tensor]]:
        model, missing_keys = kwargs["model"], kwargs["missing_keys"]
        for key, found in input_dict.items():
            value = found[0] if isinstance(found, list) else found
            owner, _, name = key.rpartition(".")
            module = model.get_submodule(owner)
            module._parameters[name] = nn.Parameter(value, requires_grad=False)
            check_finite(owner, module)
            module.like = value.new_empty(0)
            module._freeze_weight(name)
            release(value)
            shield(module, {name: value.shape})
            missing_keys.discard(key)
        return {}


def begin(model: nn.Module, config: WorkbenchConfig) -> list[str]:
    """Put quantized modules in place, still without weights; return the names of those that wait.

    A weight that is computed from others (weight norm) can be quantized only once they are there.
    """
    if config.outputs is not None:
        include, exclude = config.include, config.exclude
        quantize(model, None, include=include, exclude=exclude, outputs=config.outputs)
    if config.weights is None and config.activations is None:
        return []
    chosen = select_modules(model, config.include, config.exclude)
    waiting = [name for name, module in chosen.items() if is_parametrized(module)]
    _quantize(model, config, [name for name in chosen if name not in waiting])
    return waiting


def finish(model: nn.Module, config: WorkbenchConfig, waiting: list[str]) -> None:
    """Freeze what came, and the rest where no calibration is needed."""
    _quantize(model, config, waiting)
    modules = dict(quantized_modules(model))
    for module in modules.values():
        weights = module.weight_names if module.weights is not None else ()
        unshield(module, module.shapes)
        if weights and not any(name in module._parameters for name in weights):
            module.become_frozen()
    if all(module.calibrated for module in modules.values()):
        freeze(model)


def _quantize(model: nn.Module, config: WorkbenchConfig, names: list[str]) -> None:
    if names:
        quantize(model, config.weights, config.activations, config.optimizer, include=names)
