"""Rebuild a frozen model from its tensors and its quantization map."""

from collections.abc import Mapping
from re import sub
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.quant.args import QuantArgs
from workbench.quant.dtypes import torch_dtype
from workbench.quant.modules import QModule, class_for
from workbench.quant.modules.panels import share_panels
from workbench.quant.modules.weights import ENDS
from workbench.quant.quantize import replace_module, tell_changed

Map = Mapping[str, Mapping[str, Any]]


def requantize(model: nn.Module, state_dict: Mapping[str, Tensor], quantization_map: Map) -> None:
    """Turn the float `model` into the frozen one that `state_dict` and `quantization_map` describe.

    The float model may live on the meta device. An entry of the map may say the float "dtype" that
    its module works in, by default the one it has. Raises WorkbenchError naming the first tensor
    that is missing, left over, or of another shape or type, before `model` is changed.
    """
    twins = frozen_twins(model, quantization_map)
    ties = tied_names(model, twins)
    complete = completed(state_dict, ties)
    check(wanted_tensors(model, twins), complete)
    for name, twin in twins.items():
        replace_module(model, name, twin)
        numbers = {b: complete.get(f"{name}.{b}") for b in twin.quantized_buffers()}
        fill(twin, {b: tensor for b, tensor in numbers.items() if tensor is not None})
    model.load_state_dict(dict(complete), strict=False, assign=True)
    for first, *others in ties:
        for other in others:
            owner, _, last = other.rpartition(".")
            parameters = model.get_submodule(owner)._parameters
            if last in parameters:
                parameters[last] = model.get_parameter(first)
    for twin in twins.values():
        twin.prepare()
    share_tied(twins, ties)
    tell_changed(model, True)


def share_tied(twins: Mapping[str, QModule], ties: list[list[str]]) -> None:
    """Keep the integers of tied weights once, where the native kernels want them in panels."""
    for group in ties:
        owners = [name.rpartition(".")[0] for name in group]
        share_panels([twins[owner] for owner in owners if owner in twins])


def fill(twin: QModule, numbers: Mapping[str, Tensor]) -> None:
    """Give a frozen module its buffers; `prepare` is still to be called."""
    twin._buffers.update(numbers)
    if twin.weights is not None and twin.like.is_meta:
        device = next(iter(numbers.values())).device
        twin.like = torch.empty(0, dtype=twin.like.dtype, device=device)


def frozen_twins(model: nn.Module, quantization_map: Map) -> dict[str, QModule]:
    """Frozen modules on the meta device, as `quantization_map` describes them, for their names.

    Raises WorkbenchError where the map names what `model` lacks or says what cannot be.
    """
    twins = {}
    for name, entry in quantization_map.items():
        try:
            module = model.get_submodule(name)
        except AttributeError:
            raise WorkbenchError(
                f"the checkpoint quantizes {name!r}, which the model lacks"
            ) from None
        try:
            weights, activations, outputs = (
                QuantArgs.model_validate(said) if said else None
                for said in (entry["weights"], entry["activations"], entry.get("outputs"))
            )
            dtype = torch_dtype(entry["dtype"]) if "dtype" in entry else None
        except (KeyError, TypeError, AttributeError, ValidationError) as error:
            reason = " ".join(str(error).split())
            raise WorkbenchError(f"the map of {name} cannot be read: {reason}") from error
        kind = class_for(module, weights)
        if kind is None:
            raise WorkbenchError(
                f"{name} is a {type(module).__name__}, which cannot be quantized like that"
            )
        twin = kind.from_float(module, weights, activations, None, name)
        twin.outputs = outputs
        twin.make_empty()
        twin.arithmetic = entry.get("arithmetic")
        if dtype is not None and weights is not None:
            twin.like = twin.like.to(dtype)
        twins[name] = twin
    return twins


def wanted_tensors(
    model: nn.Module, twins: Mapping[str, QModule]
) -> dict[str, tuple[Tensor, bool]]:
    """What `model` needs once `twins` replaced their modules; True for what it can do without."""
    wanted: dict[str, tuple[Tensor, bool]] = {}
    for key, tensor in model.state_dict().items():
        # What makes up a parametrized weight, as weight norm's, stands for it.
        owner, _, last = sub(r"\.parametrizations\.(\w+)\.\w+$", r".\1", key).rpartition(".")
        if owner not in twins or last not in twins[owner].weight_names:
            wanted[key] = tensor, False
    for name, twin in twins.items():
        wanted.update(wanted_numbers(name, twin))
    return wanted


def wanted_numbers(name: str, twin: QModule) -> dict[str, tuple[Tensor, bool]]:
    """What quantization adds to the tensors of the module `name`, as in `wanted_tensors`."""
    wanted = {
        f"{name}.{key}": (buffer, False)
        for key, buffer in twin._buffers.items()
        if buffer is not None and key in twin.quantized_buffers()
    }
    if twin.slot_shape is not None:
        wanted[f"{name}.input_transform"] = torch.empty(twin.slot_shape, device="meta"), True
    return wanted


def check(wanted: Mapping[str, tuple[Tensor, bool]], found: Mapping[str, Tensor]) -> None:
    """Raise WorkbenchError, naming the tensor, where `found` is not what is `wanted`."""
    for key, (tensor, optional) in wanted.items():
        have = found.get(key)
        if have is None and optional:
            continue
        if have is None:
            raise WorkbenchError(f"the checkpoint lacks {key}, of shape {tuple(tensor.shape)}")
        if have.shape != tensor.shape:
            raise WorkbenchError(
                f"{key} has shape {tuple(have.shape)} in the checkpoint; "
                f"the model needs {tuple(tensor.shape)}"
            )
        floats = have.is_floating_point() and tensor.is_floating_point()
        short = have.element_size() == 1 or tensor.element_size() == 1
        points = key.endswith("_zero_point")  # whole ones are int8, others float32
        if have.dtype != tensor.dtype and not points and not (floats and not short):
            raise WorkbenchError(
                f"{key} is {have.dtype} in the checkpoint; the model needs {tensor.dtype}"
            )
    extra = next((key for key in found if key not in wanted), None)
    if extra is not None:
        raise WorkbenchError(f"the checkpoint holds {extra}, which the model has no place for")


def tied_names(model: nn.Module, twins: Mapping[str, QModule]) -> list[list[str]]:
    """Names of parameters that are one and the same, as a language model's head and embedding.

    Where `twins` quantize one of them and not the other, or otherwise, they are the same no more.
    """
    names: dict[Any, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner, _, last = name.rpartition(".")
        quantized = owner in twins and last in twins[owner].weight_names
        args = twins[owner].weights if quantized else None
        names.setdefault((id(parameter), args), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def completed(state_dict: Mapping[str, Tensor], ties: list[list[str]]) -> dict[str, Tensor]:
    """Give every tied name its tensors; files hold each tensor once."""
    complete = dict(state_dict)
    for group in ties:
        for end in ENDS:
            present = [name + end for name in group if name + end in complete]
            for name in group if present else []:
                complete.setdefault(name + end, complete[present[0]])
    return complete
