"""Recognize by trial which parameters of a module multiply the channels of its input."""

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from workbench.graph.calls import Call
from workbench.graph.leaves import leaves

MOST_TRIALS = 128


@dataclass(frozen=True)
class Matrix:
    """A parameter whose `axis` runs over the channels of its module's input."""

    module: str
    parameter: str
    axis: int


def matrices(name: str, call: Call) -> tuple[Matrix, ...]:
    """The matrices of one module, none where it is not for them alone that its input is there.

    The input is multiplied by powers of two and the candidates divided by them: all outputs must
    stay as they were, to the bit. That finds weights stored [out, in] or, as GPT-2 does, [in, out],
    routers, and experts, whose weights are [experts, ...] and several to a module.
    """
    if isinstance(call.module, nn.Linear):
        return (Matrix(name, "weight", 1),)
    x = call.input
    weights = {n: p for n, p in call.module._parameters.items() if p is not None and p.dim() > 1}
    if x is None or any(True for child in call.module.children() for _ in child.parameters()):
        return ()
    channels = x.shape[-1]
    choices = [
        [None, *(axis for axis, size in enumerate(weight.shape) if size == channels)]
        for weight in weights.values()
    ]
    if math.prod(map(len, choices)) > MOST_TRIALS:
        return ()
    factors = powers_of_two(channels, seed=1).to(x)
    key = None if call.args else next(iter(call.kwargs))
    args = (x * factors, *call.args[1:]) if key is None else ()
    kwargs = call.kwargs if key is None else call.kwargs | {key: x * factors}
    for axes in product(*choices):
        chosen = {n: a for n, a in zip(weights, axes, strict=True) if a is not None}
        if not chosen:
            continue
        changed = {n: along(weights[n], 1 / factors, a) for n, a in chosen.items()}
        with torch.no_grad():
            output = functional_call(call.module, changed, args, kwargs)
        if _same(output, call.output):
            return tuple(Matrix(name, n, a) for n, a in chosen.items())
    return ()


def along(tensor: Tensor, factors: Tensor, axis: int) -> Tensor:
    """`tensor` with the slices along `axis` multiplied by `factors`."""
    shape = [1] * tensor.dim()
    shape[axis] = -1
    return tensor.detach() * factors.view(shape)


def powers_of_two(count: int, seed: int) -> Tensor:
    """Random factors of 1/16 to 16, none of them 1: floats multiply by them without rounding."""
    generator = torch.Generator().manual_seed(seed)
    exponents = torch.randint(1, 5, (count,), generator=generator)
    signs = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    return torch.exp2((exponents * signs).float())


def _same(one: Any, other: Any) -> bool:
    ours, theirs = leaves(one), leaves(other)
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b
        for a, b in zip(ours, theirs, strict=True)
    )
