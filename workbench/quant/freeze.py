"""Make quantization final: integers replace the float weights."""

import sys
from collections.abc import Callable
from typing import Literal, get_args

from torch import nn

from workbench import ops
from workbench.errors import WorkbenchError
from workbench.ops.heap import trim
from workbench.ops.mapped import release
from workbench.progress import track
from workbench.quant.modules import QModule
from workbench.quant.modules.panels import share_panels
from workbench.quant.quantize import quantized_modules
from workbench.quant.slower import Slower, leave_in_float

Uncalibrated = Literal["error", "dynamic", "float"]

when_frozen: list[Callable[[nn.Module], None]] = []  # who else is told, as transformers' saving is


def freeze(
    model: nn.Module,
    uncalibrated: Uncalibrated = "error",
    op: str | None = None,
    slower: Slower = "keep",
) -> list[str]:
    """Freeze every quantized module of `model`; return the names of those that were frozen.

    `uncalibrated` says what becomes of static layers that calibration never reached: refuse and
    name them, quantize their activations as they come, or leave their activations in float.
    `op` pins an implementation (a name that `workbench doctor` lists) for the layers that it can
    compute, instead of the one that measures fastest; both compute the same bits.
    `slower` says what becomes of linear layers that measure slower on this machine than they were
    in float: keep them quantized, or leave them in float ("float"), which `coverage` and the plan
    then say, with both times.
    Modules that share a weight go on sharing its integers. Layers are frozen one after the other,
    and each one's floats given back to the system unless a float model still has them, so memory
    peaks at the float model and one layer. Raises WorkbenchError before anything is
    changed.
    """
    for name, value, kind in (
        ("uncalibrated", uncalibrated, Uncalibrated),
        ("slower", slower, Slower),
    ):
        if value not in get_args(kind):
            allowed = ", ".join(get_args(kind))
            raise WorkbenchError(f"{name}={value!r} is unknown; allowed: {allowed}")
    known = [one.name for one in ops.implementations]
    if op is not None and op not in known:
        raise WorkbenchError(f"op={op!r} is unknown; allowed: {', '.join(known)}")
    quantized = dict(quantized_modules(model))
    if not quantized:
        raise WorkbenchError(
            "nothing to freeze: the model holds no quantized module; quantize it first"
        )
    missed = {name: module for name, module in quantized.items() if not module.calibrated}
    if missed and uncalibrated == "error":
        raise WorkbenchError(_complaint(missed, len(quantized)))
    for module in missed.values():
        args = module.activations
        assert args is not None
        # "token" also where it was "tensor": finer at no cost once the range is found at run time
        dynamic = args.model_copy(update={"granularity": "token", "dynamic": True})
        module.activations = dynamic if uncalibrated == "dynamic" else None
    for module in quantized.values():
        module.pinned = op
    if slower == "float":
        for name in leave_in_float(model, quantized):
            del quantized[name]
    for module in track(quantized.values(), "freezing"):
        _freeze(module, quantized)
        trim()  # or the next layers' integers would lie beside these floats, not in their place
    for told in when_frozen:
        told(model)
    return list(quantized)


def _complaint(missed: dict[str, QModule], total: int) -> str:
    """Tell layers that no batch reached from those whose weight is read by another module."""
    read = [name for name, module in missed.items() if module.read]
    idle = [name for name in missed if name not in read]
    parts = []
    if idle:
        parts.append(
            f"no batch reached {_some(idle)}: run (more) batches through the model inside "
            "`with Calibration():`"
        )
    if read:
        parts.append(
            f"the model reads the weight of {_some(read)} without calling the layer, so its "
            "inputs cannot be seen"
        )
    return (
        f"{len(missed)} of {total} layers were never calibrated; {'; '.join(parts)}; or freeze "
        "with uncalibrated='dynamic' (ranges found as they come) or 'float' (activations in float)"
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _freeze(module: QModule, quantized: dict[str, QModule]) -> None:
    """Freeze `module`, and the modules that share its weight; let go of what was in float."""
    floats = [module._parameters.get(name) for name in module.weight_names]
    module.freeze()
    if floats and floats[0] is not None:
        _freeze_tied(module, floats[0], quantized)
    while floats:
        weight = floats.pop()
        # Two references, this one and the call's: no float model beside this one still has it.
        if weight is not None and sys.getrefcount(weight) <= 2:
            release(weight)


def _freeze_tied(module: QModule, weight: nn.Parameter, quantized: dict[str, QModule]) -> None:
    """Freeze the modules that had the same `weight` as `module`, with the same integers."""
    name = module.weight_names[0]
    tied = [module]
    for other in quantized.values():
        if other._parameters.get(name) is weight and other.weights == module.weights:
            other.freeze()
            for buffer in module.quantized_buffers():
                if buffer.startswith(name) and buffer in other._buffers:
                    other._buffers[buffer] = module._buffers[buffer]
            other.prepare()
            tied.append(other)
    share_panels(tied)
