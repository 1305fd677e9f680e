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
    found = None
    if isinstance(result, Tensor) and node.target is operator.getitem:
        found = _of_all_in_order(node, result, constants, env)
    if isinstance(result, Tensor) and node.target is operator.and_:
        found = _of_all_that_is_true(node, result, constants, env)
    return found


def _of_all_in_order(
    node: fx.Node, result: Tensor, constants: Collection[fx.Node], env: Mapping[fx.Node, Any]
) -> View | None:
    source, index = node.args
    indices = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(one, fx.Node) and one in constants for one in indices):
        return None
    x = env[source]  # type: ignore[index]
    if x.numel() != result.numel():
        return None
    order = torch.arange(x.numel()).view(x.shape)
    picked = order[tuple(env[one] for one in indices)]
    return View("reshape", source) if torch.equal(picked.flatten(), order.flatten()) else None  # type: ignore[arg-type]


def _of_all_that_is_true(
    node: fx.Node, result: Tensor, constants: Collection[fx.Node], env: Mapping[fx.Node, Any]
) -> View | None:
    for known, other in (node.args, node.args[::-1]):
        both = isinstance(known, fx.Node) and isinstance(other, fx.Node)
        if not (both and known in constants and isinstance(env[other], Tensor)):  # type: ignore[index]
            continue
        if env[other].dtype == result.dtype == torch.bool and bool(torch.all(env[known])):  # type: ignore[index]
            return View("expand", other)  # type: ignore[arg-type]
    return None
