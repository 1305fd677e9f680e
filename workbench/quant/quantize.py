"""Replace float modules by quantized ones, and rebuild a quantized model from what was saved."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.quant.args import ArgsLike, QuantArgs, activation_args, weight_args
from workbench.quant.modules import QModule, qmodule_for

Patterns = str | Iterable[str] | None


def quantize(
    model: nn.Module,
    weights: ArgsLike = "int8",
    activations: ArgsLike = None,
    include: Patterns = None,
    exclude: Patterns = None,
) -> list[str]:
    """Replace the modules of `model` that `include` and not `exclude` match; return their names.

    Patterns are shell-style (`*.mlp.*`) over full module names. Nothing is changed when something
    is refused: a number type or combination that cannot run here, patterns that leave nothing, a
    weight with NaN or infinity (WorkbenchError).
    """
    weights, activations = weight_args(weights), activation_args(activations)
    if weights is None or activations is None:
        missing = "weights" if weights is None else "activations"
        raise WorkbenchError(
            f"{missing}=None cannot run here; W8A8 is what runs: give qint8 for both"
        )
    chosen = select_modules(model, include, exclude)
    for name, module in chosen.items():
        check_finite(name, module)
    for name, module in chosen.items():
        kind = qmodule_for(module)
        assert kind is not None
        model.set_submodule(name, kind.from_float(module, weights, activations))
    return list(chosen)


def select_modules(
    model: nn.Module, include: Patterns = None, exclude: Patterns = None
) -> dict[str, nn.Module]:
    """The quantizable modules of `model` that match `include` (None: all) and not `exclude`."""
    included = ["*"] if include is None else _patterns(include)
    excluded = [] if exclude is None else _patterns(exclude)
    candidates = {n: m for n, m in model.named_modules() if qmodule_for(m) is not None}
    chosen = {
        name: module
        for name, module in candidates.items()
        if any(fnmatch(name, p) for p in included) and not any(fnmatch(name, p) for p in excluded)
    }
    if not chosen:
        raise WorkbenchError(
            f"include {included} and exclude {excluded} leave none of the {len(candidates)} "
            f"quantizable modules, such as {next(iter(candidates), 'none')!r}; widen the patterns"
        )
    return chosen


def check_finite(name: str, module: nn.Module) -> None:
    """Raise WorkbenchError, naming the first bad entry, where a weight is NaN or infinite."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    bad = (~torch.isfinite(weight)).nonzero()
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise WorkbenchError(
            f"{name}.weight holds {weight[where].item()} at {where} ({len(bad)} such entries); "
            "weights must be finite: repair the checkpoint or exclude this layer"
        )


def quantization_map(model: nn.Module) -> dict[str, dict[str, Any]]:
    """How each quantized module of `model` is quantized, as plain JSON values."""
    return {
        name: {
            "weights": module.weights.model_dump(),
            "activations": module.activations.model_dump() if module.activations else None,
        }
        for name, module in model.named_modules()
        if isinstance(module, QModule)
    }


def requantize(
    model: nn.Module,
    state_dict: Mapping[str, Tensor],
    quantization_map: Mapping[str, Mapping[str, Any]],
) -> None:
    """Turn the float `model` into the frozen one that `state_dict` and `quantization_map` describe.

    The float model may live on the meta device. Raises WorkbenchError naming the first tensor that
    is missing, left over, or of another shape or type, before `model` is changed.
    """
    plans = {}
    for name, entry in quantization_map.items():
        try:
            module = model.get_submodule(name)
        except AttributeError:
            raise WorkbenchError(
                f"the checkpoint quantizes {name!r}, which the model lacks"
            ) from None
        kind = qmodule_for(module)
        if kind is None:
            raise WorkbenchError(f"{name} is a {type(module).__name__}, which cannot be quantized")
        try:
            weights = QuantArgs.model_validate(entry["weights"])
            inputs = entry["activations"]
            activations = QuantArgs.model_validate(inputs) if inputs else None
        except (KeyError, ValidationError) as error:
            reason = " ".join(str(error).split())
            raise WorkbenchError(f"the map of {name} cannot be read: {reason}") from error
        plans[name] = (kind, module, weights, activations)
    ties = _ties(model)
    state_dict = _complete(state_dict, ties)
    check_state_dict(model, state_dict, set(plans))
    for name, (_, module, _, activations) in plans.items():
        static = activations is not None and not activations.dynamic
        check_scales(name, module, static, state_dict)
    for name, (kind, module, weights, activations) in plans.items():
        made = kind.from_float(module, weights, activations)
        del made.weight
        for key in ("weight", "weight_scale", "input_scale", "input_transform"):
            tensor = state_dict.get(f"{name}.{key}")
            made._buffers.pop(key, None)
            made.register_buffer(key, tensor)
        made.become_frozen()
        model.set_submodule(name, made)
    model.load_state_dict(dict(state_dict), strict=False, assign=True)
    for first, *others in ties:
        for other in others:
            owner, _, last = other.rpartition(".")
            setattr(model.get_submodule(owner), last, model.get_parameter(first))
    for module in model.modules():
        if isinstance(module, QModule):
            module.prepare()


def check_state_dict(
    model: nn.Module, state_dict: Mapping[str, Tensor], quantized: set[str]
) -> None:
    """Compare `state_dict` with what `model` will need once the modules `quantized` are."""
    extra = {"weight_scale", "input_scale", "input_transform"}
    wanted = model.state_dict()
    for key, tensor in wanted.items():
        owner, _, last = key.rpartition(".")
        found = state_dict.get(key)
        if found is None:
            raise WorkbenchError(f"the checkpoint lacks {key}, of shape {tuple(tensor.shape)}")
        if found.shape != tensor.shape:
            raise WorkbenchError(
                f"{key} has shape {tuple(found.shape)} in the checkpoint; "
                f"the model needs {tuple(tensor.shape)}"
            )
        if (last == "weight" and owner in quantized) != (found.dtype == torch.int8):
            raise WorkbenchError(f"{key} is {found.dtype} in the checkpoint, at odds with its map")
    for key in state_dict:
        owner, _, last = key.rpartition(".")
        if key not in wanted and not (owner in quantized and last in extra):
            raise WorkbenchError(f"the checkpoint holds {key}, which the model has no place for")


def check_scales(
    name: str, module: nn.Module, static: bool, state_dict: Mapping[str, Tensor]
) -> None:
    """Compare the scales of one quantized module with the shape of its weight [out, in]."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    wanted = {"weight_scale": (weight.shape[0], 1)} | ({"input_scale": (1,)} if static else {})
    optional = {"input_transform": (weight.shape[1],)}
    for key, shape in (wanted | optional).items():
        found = state_dict.get(f"{name}.{key}")
        if found is None and key in optional:
            continue
        if found is None or tuple(found.shape) != shape:
            what = "nothing" if found is None else f"shape {tuple(found.shape)}"
            raise WorkbenchError(f"the checkpoint holds {what} as {name}.{key}; it needs {shape}")
    if not static and f"{name}.input_scale" in state_dict:
        raise WorkbenchError(f"the checkpoint holds {name}.input_scale, but its inputs are dynamic")


def _ties(model: nn.Module) -> list[list[str]]:
    """Names of parameters that are one and the same, as a language model's head and embedding."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _complete(state_dict: Mapping[str, Tensor], ties: list[list[str]]) -> dict[str, Tensor]:
    """Give every tied name its tensor; files hold each tensor once."""
    complete = dict(state_dict)
    for group in ties:
        present = [name for name in group if name in complete]
        for name in group if present else []:
            complete.setdefault(name, complete[present[0]])
    return complete


def _patterns(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
