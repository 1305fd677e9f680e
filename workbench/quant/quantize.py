"""The verb quantize, and what became of a model."""

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from typing import Any

import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.quant.args import ArgsLike, activation_args, weight_args
from workbench.quant.modules import QLayerNorm, QModule, class_for, is_norm, qmodule_for
from workbench.quant.optimizers import Optimizer, default_optimizer, optimizer_named

Patterns = str | Iterable[str] | None

# Who else is told whether a model is quantized now; some of transformers' call a layer only then.
when_changed: list[Callable[[nn.Module, bool], None]] = []


def quantize(
    model: nn.Module,
    weights: ArgsLike = "int8",
    activations: ArgsLike = None,
    optimizer: Optimizer | str | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    *,
    outputs: ArgsLike = None,
) -> list[str]:
    """Replace the modules of `model` that `include` and not `exclude` match; return their names.

    `weights` and `activations` are number types or `QuantArgs`, None for float; `optimizer` (or its
    name: "absmax", "max", "mse", "hqq") finds the scales of weights, by default from all of the
    range at 8 bits and by least squared error below; `outputs`, if given, quantizes what norms put
    out. Patterns are shell-style (`*.mlp.*`) over full module names; embeddings, and heads that
    share their weight, want `include` to name them. Nothing is changed when something is refused: a
    type or combination that makes no sense, a group size that does not divide, patterns that leave
    nothing, a weight with NaN or infinity (WorkbenchError).
    """
    weights, activations = weight_args(weights), activation_args(activations)
    norm_args = activation_args(outputs)
    if weights is None and activations is None and norm_args is None:
        raise WorkbenchError(
            "weights, activations and outputs are all None, which leaves nothing to quantize; give "
            "a type for one of them, such as weights=qint8"
        )
    if isinstance(optimizer, str):
        optimizer = optimizer_named(optimizer)
    if not isinstance(optimizer, Optimizer | None):
        raise WorkbenchError(
            f"optimizer={optimizer!r} is no optimizer; give one such as HqqOptimizer(), or its name"
        )
    if weights is not None:
        (optimizer or default_optimizer(weights)).check(weights)
    if qmodule_for(model) is not None:
        raise WorkbenchError(
            f"a bare {type(model).__name__} cannot be replaced in place: wrap it in nn.Sequential"
        )
    chosen = select_modules(model, include, exclude) if weights or activations else {}
    made: dict[str, QModule] = {}
    for name, module in chosen.items():
        kind = class_for(module, weights)
        if kind is not None:
            made[name] = kind.from_float(module, weights, activations, optimizer, name)
            check_finite(name, made[name])
    if norm_args is not None:
        for name, module in model.named_modules():
            if is_norm(module) and _matches(name, include, exclude):
                made[name] = QLayerNorm.from_float(module, None, norm_args, None, name)
    if not made:
        raise WorkbenchError(
            "nothing that include and exclude leave has activations that can be rounded: widen the "
            "patterns, or give a type for the weights"
        )
    for name, quantized in made.items():
        replace_module(model, name, quantized)
    tell_changed(model, True)
    return list(made)


def select_modules(
    model: nn.Module, include: Patterns = None, exclude: Patterns = None
) -> dict[str, nn.Module]:
    """The quantizable modules of `model` that match `include` and not `exclude`.

    Without `include`, all but embeddings, and but heads that share an embedding's weight.
    """
    candidates = {n: m for n, m in model.named_modules() if qmodule_for(m) is not None}
    if include is None:
        shared = {id(m.weight) for m in candidates.values() if isinstance(m, nn.Embedding)}
        candidates = {
            name: module
            for name, module in candidates.items()
            if id(module._parameters.get("weight")) not in shared
        }
    chosen = {n: m for n, m in candidates.items() if _matches(n, include, exclude)}
    if not candidates:
        raise WorkbenchError(
            "the model holds no module that can be quantized, or all of them are already: "
            "`dequantize` it first to quantize it in another way"
        )
    if not chosen:
        raise WorkbenchError(
            f"include {_patterns(include)} and exclude {_patterns(exclude)} leave none of the "
            f"{len(candidates)} quantizable modules, such as {next(iter(candidates))!r}; "
            "widen the patterns"
        )
    return chosen


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place `name`, wherever else the same module is registered too."""
    old = model.get_submodule(name)
    for owner in list(model.modules()):
        for key, child in owner._modules.items():
            if child is old:
                owner._modules[key] = module


def check_finite(name: str, module: nn.Module) -> None:
    """Raise WorkbenchError, naming the first bad entry, where a weight is NaN or infinite."""
    for key, weight in module._parameters.items():
        if weight is None or weight.dim() < 2 or weight.is_meta or weight.numel() == 0:
            continue
        if all(end.isfinite() for end in weight.detach().aminmax()):  # no copy, and NaN wins
            continue
        bad = (~torch.isfinite(weight)).nonzero()
        where = tuple(int(i) for i in bad[0])
        raise WorkbenchError(
            f"{name}.{key} holds {weight[where].item()} at {where} ({len(bad)} such entries); "
            "weights must be finite: repair the checkpoint or exclude this layer"
        )


def dequantize(model: nn.Module) -> list[str]:
    """Turn every quantized module of `model` back into its float one; return their names.

    Before freezing that gives back the float weights as they were, after it the values that the
    integers stand for.
    """
    names = [name for name, _ in quantized_modules(model)]
    for name in names:
        module = model.get_submodule(name)
        assert isinstance(module, QModule)
        replace_module(model, name, module.to_float())
    tell_changed(model, False)
    return names


def tell_changed(model: nn.Module, is_quantized: bool) -> None:
    """Tell those who asked in `when_changed`."""
    for told in when_changed:
        told(model, is_quantized)


def quantized_modules(model: nn.Module) -> Iterator[tuple[str, QModule]]:
    """Every quantized module with its full name."""
    for name, module in model.named_modules():
        if isinstance(module, QModule):
            yield name, module


def quantization_map(model: nn.Module) -> dict[str, dict[str, Any]]:
    """How each quantized module of `model` is quantized, as plain JSON values.

    For norms, "activations" are their outputs and "weights" null. "outputs" stands where a layer
    rounds both its inputs and its outputs; "arithmetic" names the op of a frozen layer where ops
    that round otherwise could compute it.
    """
    return {
        name: {
            "weights": module.weights.model_dump() if module.weights else None,
            "activations": module.activations.model_dump() if module.activations else None,
            **({"outputs": module.outputs.model_dump()} if module.outputs else {}),
            **({"arithmetic": module.arithmetic} if module.arithmetic else {}),
        }
        for name, module in quantized_modules(model)
    }


def _matches(name: str, include: Patterns, exclude: Patterns) -> bool:
    wanted = include is None or any(fnmatch(name, p) for p in _patterns(include))
    return wanted and not any(fnmatch(name, p) for p in _patterns(exclude))


def _patterns(value: Patterns) -> list[str]:
    several = [value] if isinstance(value, str) else value or ()
    patterns = list(several) if isinstance(several, Iterable) else [several]
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise WorkbenchError(f"{value!r} is no pattern of names; give text such as '*.mlp.*'")
    return patterns
