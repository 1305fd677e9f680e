"""What the passes ask of nodes that `torch.compile` recorded."""

from operator import add, getitem, mul, neg
from typing import Any

import torch
from torch import Tensor, fx

from workbench.ops import native

ADDS, PRODUCTS, NEGATIVES = (add, torch.add), (mul, torch.mul), (neg, torch.neg)


def value(node: Any) -> Tensor | None:
    """The tensor without data that stands for what `node` computes."""
    found = node.meta.get("example_value") if isinstance(node, fx.Node) else None
    return found if isinstance(found, Tensor) else None


def native_float(node: Any) -> bool:
    """Whether `node` is a tensor that native ops over floats take."""
    found = value(node)
    return found is not None and found.device.type == "cpu" and found.dtype in native.FLOATS


def like(one: Any, other: Any) -> bool:
    """Whether two tensors have one shape and dtype."""
    a, b = value(one), value(other)
    return a is not None and b is not None and a.shape == b.shape and a.dtype == b.dtype


def is_call(node: Any, *functions: Any) -> bool:
    """Whether `node` calls one of `functions`."""
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in functions


def method(node: Any, *names: str) -> bool:
    """Whether `node` calls a tensor's method of one of these names."""
    return isinstance(node, fx.Node) and node.op == "call_method" and node.target in names


def arguments(node: fx.Node, *names: str) -> dict[str, Any]:
    """The arguments of `node` by name, None where they are left out."""
    given = dict.fromkeys(names) | dict(zip(names, node.args, strict=False))
    return given | node.kwargs


def pair(node: Any, functions: tuple[Any, ...]) -> tuple[Any, Any] | None:
    """The two operands of a sum or product, which has no other arguments."""
    if is_call(node, *functions) and len(node.args) == 2 and not node.kwargs:
        return node.args
    return None


def picked(node: Any, index: Any) -> Any:
    """What `node` indexes by `index`; None where it does not."""
    return node.args[0] if is_call(node, getitem) and node.args[1] == index else None


def without_dropout(node: Any) -> Any:
    """`node`, or what it passes on, being a dropout that is switched off."""
    while is_call(node, torch.nn.functional.dropout):
        given = arguments(node, "input", "p", "training", "inplace")
        if given["training"] is not False:
            break
        node = given["input"]
    return node


def changed(node: fx.Node) -> bool:
    """Whether something writes to what `node` computes: read later, it is another thing."""
    return any(
        user.op == "call_method" and user.target.endswith("_") and user.args[0] is node  # type: ignore[union-attr]
        for user in node.users
    )


def discard(node: fx.Node) -> None:
    """Erase `node`, which nothing reads any more, and what was computed for it alone.

    For nodes that passes have matched: none of them writes to a tensor.
    """
    if node.users or node.op not in ("call_function", "call_method"):
        return
    inputs = node.all_input_nodes
    node.graph.erase_node(node)
    for one in inputs:
        discard(one)
