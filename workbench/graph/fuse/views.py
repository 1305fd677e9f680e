"""Copies that views can stand for, once it is known what the constants among their inputs are.

So transformers makes masks: rows and columns picked by all positions in order, and a product with
what is true everywhere.
"""

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx


@dataclass(frozen=True)
class View:
    """What `node` computes, as the `method` of another node gives it by the shape alone."""

    method: str
    source: fx.Node


def view_of(
    node: fx.Node, result: Any, constants: Collection[fx.Node], env: Mapping[fx.Node, Any]
) -> View | None:
    """The view that is equal to the `result` of `node`, with values as in `env`; None without.

    It is the caller's to see that nothing writes to either.
    """
    if node.target is operator.getitem:
        source, index = node.args
        indices = index if isinstance(index, tuple) else (index,)
        known = [env[one] for one in indices if isinstance(one, fx.Node) and one in constants]
        if isinstance(source, fx.Node) and len(known) == len(indices):
            return View("reshape", source) if _in_order(env[source], known, result) else None
    if node.target is operator.and_:
        for mask, other in (node.args, node.args[::-1]):
            if not (isinstance(mask, fx.Node) and isinstance(other, fx.Node)):
                return None
            if mask in constants and _is_mask(env[other]) and _is_mask(env[mask]):
                return View("expand", other) if env[mask].all() else None
    return None


def _in_order(x: Any, indices: list[Any], result: Tensor) -> bool:
    """Whether indices pick all numbers of `x`, one after the other, for the `result`."""
    if not (isinstance(x, Tensor) and x.is_cpu and x.numel() == result.numel()):
        return False
    order = torch.arange(x.numel())
    return torch.equal(order.view(x.shape)[tuple(indices)].flatten(), order)


def _is_mask(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype == torch.bool
