"""Group the linears of a model by the tensor they read, and say which norm could absorb a scale."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.graph.norms import gain_offset
from workbench.graph.trace import trace


@dataclass(frozen=True)
class InputGroup:
    """Linears that read one tensor; `foldable` when a norm made it and nothing else reads it."""

    name: str
    linears: tuple[str, ...]
    norm: str | None
    offset: float
    foldable: bool
    reason: str


def input_groups(model: nn.Module, batch: Mapping[str, Any]) -> list[InputGroup]:
    """Trace `model(**batch)`; return the input groups of its linears in order of execution."""
    norms = _norms(model, batch)
    offsets = {name: offset for name, (_, offset) in norms.items()}
    tied = tied_modules(model)
    readings = trace(model, batch, {name: module for name, (module, _) in norms.items()})
    makes = [reading.maker for reading in readings]
    grouped: dict[tuple[str, ...], InputGroup] = {}
    calls: dict[str, int] = {}
    for reading in readings:
        for reader in reading.readers:
            calls[reader] = calls.get(reader, 0) + 1
    for reading in readings:
        if not reading.readers:
            continue
        linears = tuple(dict.fromkeys(reading.readers))
        norm = reading.maker
        obstacles = []
        if norm is None:
            obstacles.append("no norm makes this input")
        elif makes.count(norm) > 1:
            obstacles.append(f"{norm} runs more than once")
        if reading.others:
            obstacles.append(f"{reading.others[0]} reads it too")
        shared = [name for name in linears if name in tied or calls[name] > 1]
        if shared:
            obstacles.append(f"{shared[0]} shares its weight or runs more than once")
        if norm in tied:
            obstacles.append(f"{norm} shares its weight")
        grouped.setdefault(
            linears,
            InputGroup(
                name=group_name(linears),
                linears=linears,
                norm=norm,
                offset=offsets.get(norm or "", 0.0),
                foldable=not obstacles,
                reason="; ".join(obstacles) or f"only these read {norm}",
            ),
        )
    return list(grouped.values())


def group_name(linears: tuple[str, ...]) -> str:
    """Name a group after its linears: `layers.0.self_attn.[q_proj k_proj v_proj]`."""
    parent = linears[0].rpartition(".")[0]
    if len(linears) == 1:
        return linears[0]
    if all(name.rpartition(".")[0] == parent for name in linears):
        return f"{parent}.[{' '.join(name.rpartition('.')[2] for name in linears)}]"
    return f"{linears[0]} +{len(linears) - 1}"


def _norms(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, tuple[nn.Module, float]]:
    """Find the modules that end in a gain per channel, each tried on an input it really gets."""
    inputs: dict[str, Tensor] = {}
    handles = []
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() == 1:

            def keep(_: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
                if args and isinstance(args[0], Tensor):
                    inputs[name] = args[0].detach()

            handles.append(module.register_forward_pre_hook(keep))
    try:
        with torch.no_grad():
            model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for name, x in inputs.items():
        module = model.get_submodule(name)
        offset = gain_offset(module, x)
        if offset is not None:
            found[name] = (module, offset)
    return found


def tied_modules(model: nn.Module) -> set[str]:
    """Names of the modules whose weight belongs to another module too."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor):
            owners.setdefault(id(weight), []).append(name)
    return {name for names in owners.values() if len(names) > 1 for name in names}
