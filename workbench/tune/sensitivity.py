"""How much each layer hurts the output at each width, from one pass over calibration data."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.graph import input_groups
from workbench.metrics import sqnr_db
from workbench.observe import small_example
from workbench.progress import track
from workbench.quant import Optimizer, QuantArgs
from workbench.quant.args import ArgsLike
from workbench.quant.modules import QConv1D, QLinear, Transformed, qmodule_for
from workbench.quant.quantize import Patterns, select_modules
from workbench.tune.candidates import read_candidates, rounding_error, stored_bytes
from workbench.tune.damage import Damage, Sensitivity
from workbench.tune.probe import Probe, Task, bytes_a_token

SQNR_TOKENS = 1024  # of a layer's inputs: each has many outputs, so few say enough
MEMORY = 4 * 2**30


def sensitivity(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    candidates: Iterable[ArgsLike] | None = None,
    *,
    optimizer: Optimizer | None = None,
    include: Patterns = None,
    exclude: Patterns = ("lm_head",),
    task: Task | None = None,
    tokens: int | None = None,
    seed: int = 0,
) -> Sensitivity:
    """Predict what rounding each linear of the float `model` to each of `candidates` does.

    One forward and two backwards for each batch. The KL to the float model is quadratic around it:
    for a change dY of a layer's output it is `E[(g dY)^2] / 2`, where g is the gradient of the log
    likelihood of labels drawn from the model's own distribution (Martens, arXiv:1412.1193, section
    9.2) and `dY = x (W_rounded - W)^T`, summed over a sequence: what is the same for all of its
    tokens may cancel, as in keys that are all off alike, or add up. Whole sequences are kept, about
    `tokens` in all, and summed to a weight gradient each, so that a candidate costs its rounding
    and a product of two weights' size for each, not an evaluation. Every sequence is one more
    sample of a quantity that is known to about `1 / sqrt(sequences)`, so by default all are kept
    whose `2 tokens (in + 2 out)` bytes for each layer fit in 4 GiB.
    `task(outputs, batch)` may return a scalar loss to predict too, to first order. `candidates` are
    number types or `QuantArgs`, by default affine integers of 2, 3, 4, 6 and 8 bits in groups,
    `optimizer` finds their scales as in `quantize`. Raises WorkbenchError without batches, layers
    or candidates.
    """
    batches = list(batches)
    if not batches:
        raise WorkbenchError("no batches to measure on: give at least one mapping of inputs")
    named = read_candidates(candidates)
    modules, left = _linears(select_modules(model, include, exclude))
    most = MEMORY // bytes_a_token(modules) if tokens is None else tokens
    probe = Probe(model, modules, most, len(batches), seed, task)
    for batch in track(batches, "sensitivity"):
        probe.take(batch)
    layers: dict[str, dict[str, Damage]] = {}
    for name, module in track(modules.items(), "rounding candidates", len(modules)):
        if any(probe.samples[name].output):
            layers[name] = _damages(name, module, named, optimizer, probe)
        else:
            left[name] = "its output does not reach the model's on these batches"
    return Sensitivity(
        layers=layers,
        candidates=named,
        parameters={name: _count(modules[name]) for name in layers},
        shared=shared_bits(model, batches[0], list(layers)),
        left=left,
        measure=probe.measure,
        positions=probe.positions,
    )


def _linears(chosen: dict[str, nn.Module]) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The linears among `chosen`, and why others are none."""
    kinds = {name: qmodule_for(module) for name, module in chosen.items()}
    able = {n: m for n, m in chosen.items() if issubclass(kinds[n] or object, QLinear | QConv1D)}
    if not able:
        raise WorkbenchError(
            f"none of the {len(chosen)} chosen layers is a linear, such as {next(iter(chosen))!r}: "
            "widen the patterns"
        )
    left = {n: f"a {type(m).__name__} is no linear" for n, m in chosen.items() if n not in able}
    return able, left


def _damages(
    name: str,
    module: nn.Module,
    candidates: Mapping[str, QuantArgs],
    optimizer: Optimizer | None,
    probe: Probe,
) -> dict[str, Damage]:
    pairs = [rounding_error(name, module, args, optimizer) for args in candidates.values()]
    weight, errors = pairs[0][0], torch.stack([error for _, error in pairs])
    if isinstance(module, Transformed):  # the probe sees what comes before the slot
        weight, errors = weight * module.input_transform, errors * module.input_transform
    outputs = probe.damages(name, errors).tolist()
    rises = [None] * len(errors) if probe.task is None else probe.rises(name, errors).tolist()
    x = probe.samples[name].tokens(SQNR_TOKENS)
    y = x @ weight.T
    return {
        key: Damage(
            output=output,
            sqnr_db=sqnr_db(y, y + x @ error.T),
            task=rise,
            bits=args.qtype.bits,
            bytes=stored_bytes(weight.shape, args),
        )
        for (key, args), error, output, rise in zip(
            candidates.items(), errors, outputs, rises, strict=True
        )
    }


def _count(module: nn.Module) -> int:
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    return weight.numel()


def shared_bits(
    model: nn.Module, batch: Mapping[str, Any], names: list[str]
) -> list[tuple[str, ...]]:
    """The layers among `names` that must have the same bits: readers of one tensor, whose products
    engines fuse, and layers that are one weight."""
    small = {**batch, **small_example(model, [batch])}
    sets = [set(group.linears) for group in input_groups(model, small)]
    owners: dict[int, set[str]] = {}
    for name in names:
        owners.setdefault(id(model.get_submodule(name).weight), set()).add(name)
    merged: list[set[str]] = []
    for found in (*sets, *owners.values()):
        found = found & set(names)
        for other in [o for o in merged if o & found]:
            merged.remove(other)
            found |= other
        if found:
            merged.append(found)
    return [tuple(n for n in names if n in found) for found in merged if len(found) > 1]
