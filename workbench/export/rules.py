"""What vLLM's loader of compressed-tensors accepts.

Read from its sources (`compressed_tensors.py`: the `_is_...` predicates and
`_get_scheme_from_parts`; `marlin_utils.py`: group sizes and types; `should_ignore_layer`: fused
layers), where what is not accepted ends in "No compressed-tensors compatible scheme was found".
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.export.base import check_widths, refuse
from workbench.models.formats import Format, format_of
from workbench.models.manifest import frozen_modules
from workbench.quant import QModule, QuantArgs

GROUP_SIZES = (32, 64, 128)  # and one group for each channel
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # vLLM multiplies by them as one

Broken = tuple[str, str, str]  # what was found, the rule, what to do


def check_for_vllm(model: nn.Module) -> None:
    """Raise WorkbenchError, naming the first layer and the rule, where vLLM would refuse `model`.

    A float model breaks none. `lm_head` and embeddings stay in float, for they are no linear layers
    to vLLM.
    """
    if not hasattr(getattr(model, "config", None), "to_dict"):
        raise WorkbenchError(
            f"a {type(model).__name__} has no config of transformers, and vLLM finds out by it "
            "what the model is: give a model of transformers"
        )
    check_widths(model, "vLLM")
    modules = frozen_modules(model)
    head = _head(model)
    for name, module in modules.items():
        if module is head or isinstance(module, nn.Embedding):
            raise refuse(
                name,
                "is quantized",
                "vLLM loads embeddings and the head in float",
                f"quantize with exclude={name!r}",
            )
        broken = _schemes[format_of(module).name](module)
        if broken is not None:
            raise refuse(name, *broken)
    _check_fused(model, modules)


def _head(model: nn.Module) -> nn.Module | None:
    get: Any = getattr(model, "get_output_embeddings", None)
    found = get() if get is not None else None
    return found if isinstance(found, nn.Module) else None


def _unsayable(module: QModule) -> Broken:
    """What only our own format can say."""
    if module.input_transform is not None:
        return (
            "multiplies its inputs by what smoothing could not fold",
            "compressed-tensors has no tensor for that",
            "smooth only where it folds, or leave the layer out of smoothing",
        )
    kind, side = type(module).__name__, module.side
    return (
        f"is a {kind}: weights {_told(module.weights)}, {side}s {_told(module.activations)}",
        "compressed-tensors cannot say that",
        "quantize linear layers alone, to int8, int4 or float8, without norms' outputs",
    )


def _integers(module: QModule) -> Broken | None:
    """W8A8 (int-quantized): inputs static per tensor or dynamic per token."""
    w, a = module.weights, module.activations
    assert w is not None
    assert a is not None
    if not w.symmetric or w.granularity == "group":
        return (
            f"has weights {_told(w)}",
            "with int8 inputs vLLM takes symmetric int8 weights per channel or tensor",
            'quantize with weights="int8"',
        )
    return _inputs(a)


def _inputs(a: QuantArgs) -> Broken | None:
    if (a.granularity == "tensor") != a.dynamic:
        return None
    return (
        f"has inputs {_told(a)}",
        "vLLM rounds inputs statically per tensor or dynamically per token",
        'quantize with activations="int8" and calibrate, or with granularity="token", dynamic=True',
    )


def _words(module: QModule) -> Broken | None:
    """WNA16 (pack-quantized): Marlin and its peers."""
    w, a = module.weights, module.activations
    assert w is not None
    if a is not None:
        return (
            f"has weights {_told(w)} with inputs {_told(a)}",
            "vLLM multiplies packed weights by float inputs only",
            "leave the activations in float",
        )
    if w.qtype.bits not in (4, 8):
        return f"has weights {_told(w)}", "vLLM takes packed weights of 4 or 8 bits", "choose one"
    if w.granularity == "tensor":
        return f"has weights {_told(w)}", "vLLM wants groups or channels", "quantize per channel"
    if w.granularity == "group" and w.group_size not in GROUP_SIZES:
        return (
            f"has groups of {w.group_size} inputs",
            f"vLLM's kernels take groups of {', '.join(map(str, GROUP_SIZES))}, or whole channels",
            "give one of these as group_size",
        )
    if not w.symmetric and w.qtype.bits != 4:
        return (
            f"has weights {_told(w)}",
            "vLLM's kernels know zero points at 4 bits only",
            "quantize it symmetrically",
        )
    return None


def _floats(module: QModule) -> Broken | None:
    """Float8, with inputs in float8 or in float."""
    w, a = module.weights, module.activations
    assert w is not None
    if w.granularity == "group":
        return (
            f"has weights {_told(w)}",
            "vLLM takes float8 weights per channel or tensor",
            'quantize with weights="float8"',
        )
    return None if a is None else _inputs(a)


_schemes: Mapping[str, Callable[[QModule], Broken | None]] = {
    "int-quantized": _integers,
    "pack-quantized": _words,
    "float-quantized": _floats,
    "naive-quantized": _floats,
    Format.name: _unsayable,
}


def _check_fused(model: nn.Module, modules: Mapping[str, QModule]) -> None:
    """Raise where layers that vLLM fuses are not quantized alike."""
    names = {name for name, _ in model.named_modules()}
    for first in sorted(names):
        parent, _, last = first.rpartition(".")
        for family in FUSED:
            if last != family[0]:
                continue
            for other in (f"{parent}.{sibling}" for sibling in family[1:]):
                if other not in names:
                    continue
                one, two = modules.get(first), modules.get(other)
                if _scheme(one) != _scheme(two):
                    found = f"is {_scheme(two)}, and {first} is {_scheme(one)}"
                    rule = f"vLLM fuses {', '.join(family)} and wants one scheme for all"
                    raise refuse(other, found, rule, "quantize them alike")
                if not _same_step(one, two):
                    raise refuse(
                        other,
                        f"rounds its inputs by another scale than {first}",
                        f"vLLM fuses {', '.join(family)} and takes the largest scale for all",
                        "calibrate both on the same inputs",
                    )


def _scheme(module: QModule | None) -> str:
    if module is None:
        return "in float"
    return f"weights {_told(module.weights)}, inputs {_told(module.activations)}"


def _same_step(one: QModule | None, two: QModule | None) -> bool:
    steps = [None if m is None else m._buffers.get("input_scale") for m in (one, two)]
    if steps[0] is None or steps[1] is None:
        return True
    return torch.equal(steps[0], steps[1])


def _told(args: QuantArgs | None) -> str:
    if args is None:
        return "float"
    size = f" of {args.group_size}" if args.group_size else ""
    kind = "symmetric" if args.symmetric else "affine"
    when = " dynamic" if args.dynamic else ""
    return f"{args.dtype} {kind}{when} per {args.granularity}{size}"
