"""Quantize a model with other weights here than there."""

from collections.abc import Mapping
from fnmatch import fnmatch

from torch import nn

from workbench.errors import WorkbenchError
from workbench.quant import Optimizer, QuantArgs, quantize
from workbench.quant.args import ArgsLike, weight_args
from workbench.quant.quantize import Patterns, select_modules
from workbench.tune.candidates import with_bits


def quantize_mixed(
    model: nn.Module,
    mixed: Mapping[str, ArgsLike | int],
    weights: ArgsLike = "int8",
    activations: ArgsLike = None,
    optimizer: Optimizer | str | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
) -> list[str]:
    """Do as `quantize` does, with the weights that `mixed` says for some modules.

    Its keys are shell-style patterns over module names (the first match wins, no match gets
    `weights`), its values number types, `QuantArgs`, or bits: `weights` with integers so wide.
    Raises WorkbenchError, before anything is changed, where a pattern matches nothing, or for bits
    of weights that are no integers.
    """
    base = weight_args(weights)
    if base is None:
        raise WorkbenchError("weights is None: name the modules to quantize with `include` instead")
    chosen = select_modules(model, include, exclude)
    idle = next((p for p in mixed if not any(fnmatch(name, p) for name in chosen)), None)
    if idle is not None:
        raise WorkbenchError(
            f"the pattern {idle!r} matches none of the {len(chosen)} modules to quantize, such as "
            f"{next(iter(chosen))!r}"
        )
    read = {pattern: _read(value, base) for pattern, value in mixed.items()}
    kinds: dict[QuantArgs, list[str]] = {}
    for name in chosen:
        args = next((a for p, a in read.items() if fnmatch(name, p)), base)
        kinds.setdefault(args, []).append(name)
    made = [
        name
        for args, names in kinds.items()
        for name in quantize(model, args, activations, optimizer, include=names)
    ]
    return [name for name in chosen if name in set(made)]


def _read(value: ArgsLike | int, base: QuantArgs) -> QuantArgs:
    if isinstance(value, int):
        if base.qtype.is_float:
            raise WorkbenchError(
                f"{value} bits are a width of integers, and weights are {base.dtype}: give a type"
            )
        return with_bits(base, value)
    args = weight_args(value)
    if args is None:
        raise WorkbenchError("a pattern of mixed weights has None: use `exclude` to leave it float")
    return args
