"""Linear layers that are slower quantized than in float on this machine, as measured here."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from workbench.ops import choose
from workbench.progress import track
from workbench.quant.dtypes import dtype_name
from workbench.quant.modules import QConv1D, QLinear, QModule, Transformed
from workbench.quant.modules.twin import twin_of
from workbench.quant.quantize import replace_module, tell_changed

Slower = Literal["keep", "float"]

_LEFT = "left_in_float"  # the attribute of a module that says why
_verdicts: dict[tuple[object, ...], tuple[bool, str]] = {}


def why_in_float(module: nn.Module) -> str | None:
    """Why freezing left `module` in float, None where it did not."""
    found: str | None = vars(module).get(_LEFT)
    return found


def leave_in_float(model: nn.Module, quantized: Mapping[str, QModule]) -> list[str]:
    """Put those of the unfrozen `quantized` modules of `model` that are slower back to float.

    Returns their names. `why_in_float` has the reason of each.
    """
    linears = {
        name: module
        for name, module in quantized.items()
        if isinstance(module, QLinear | QConv1D) and not module.frozen
    }
    # All are measured before the first is replaced: a cancel in between changes nothing.
    found = {n: against_float(m) for n, m in track(linears.items(), "measuring against float")}
    left = {name: told for name, (is_slower, told) in found.items() if is_slower}
    for name, told in left.items():
        plain = _in_float(linears[name])
        vars(plain)[_LEFT] = f"slower quantized than in float, {told}"
        replace_module(model, name, plain)
    if len(left) == len(quantized):
        tell_changed(model, False)
    return list(left)


def against_float(module: QLinear | QConv1D) -> tuple[bool, str]:
    """Whether the unfrozen `module`, frozen, is slower than in float, and what was measured.

    Slower for every number of tokens that is tried, by more than noise. Measured once for each
    shape and scheme in a process, so that the same layers get the same answer.
    """
    weight = module._parameters["weight"]
    assert weight is not None
    threads = torch.get_num_threads()
    key = (
        *(type(module), weight.shape, weight.dtype, weight.device, module.pinned),
        *(module.weights, module.activations, module.outputs),
        *(module.input_transform is None, module.bias is None),
        *(threads, choose.native_level()),
    )
    if key not in _verdicts:
        frozen = twin_of(module, type(module))
        frozen.freeze()
        plain, name = _in_float(module), f"{dtype_name(weight.dtype)} linear"
        with torch.no_grad():
            times = choose.measured(
                {frozen.op: frozen.forward, name: plain.forward},
                module.shapes["weight"][1],
                weight.dtype,
                weight.device,
            )
        slower = choose.faster(times[name], times[frozen.op])
        everywhere = len(slower) == len(choose.ROWS)
        partly = f"; slower with {slower[0]}" if slower and not everywhere else ""
        _verdicts[key] = everywhere, choose.told(times, threads) + partly
    return _verdicts[key]


@torch.no_grad()
def _in_float(module: QLinear | QConv1D) -> nn.Module:
    """The float module, its input slot folded into the weight: checkpoints keep none for floats."""
    twin = twin_of(module, type(module))
    transform = twin.input_transform
    if transform is not None:
        weight = twin._parameters["weight"]
        assert weight is not None
        folded = twin.oriented((twin.oriented(weight) * transform).to(weight.dtype))
        twin._parameters["weight"] = nn.Parameter(folded.contiguous(), requires_grad=False)
        twin._buffers["input_transform"] = None
    if issubclass(twin.float_class, Transformed):
        twin.float_class = twin.float_class.plain
    return twin.to_float()
