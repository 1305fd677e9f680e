"""Norms and products, with the sum before them and the quantized layers behind them, in one op."""

from dataclasses import dataclass
from operator import getitem
from typing import Any

import torch
from torch import fx

from workbench.graph.fuse.layers import NO_LAYERS, OPS, Layers, layers_of
from workbench.graph.fuse.match import (
    ADDS,
    PRODUCTS,
    arguments,
    changed,
    discard,
    is_call,
    like,
    method,
    native_float,
    pair,
    value,
    without_dropout,
)
from workbench.ops import rows as _ops  # noqa: F401 - registers what is called here

functional = torch.nn.functional
PLAIN = {"other": None, "gain": None, "bias": None, "epsilon": 0.0, "round_early": False}


@dataclass
class Rows:
    """What makes the rows of `node`: the arguments of `rows_native`, `x` apart."""

    node: fx.Node
    x: fx.Node
    kind: str
    given: dict[str, Any]

    @classmethod
    def of(cls, node: fx.Node, x: Any, kind: str, **given: Any) -> "Rows":
        """With the arguments that are not `given` as if they were not there."""
        return cls(node, x, kind, PLAIN | given)


def fuse_rows(graph: fx.Graph) -> int:
    """Fuse norms, and products that quantized layers alone read; how many ops it made."""
    made = 0
    for node in list(graph.nodes):
        readers = [user for user in node.users if is_call(user, *OPS)]
        rows = norm(node) or (product(node) if len(readers) == len(node.users) == 1 else None)
        if rows is None or not (native_float(rows.x) and like(rows.x, node)):
            continue
        layers = layers_of(readers[0]) if len(readers) == 1 and readers[0].args[0] is node else None
        _replace(graph, rows, _sum(rows), layers)
        made += 1
    return made


def norm(node: fx.Node) -> Rows | None:
    """The norm whose result `node` is, of the last dimension and in any of its spellings."""
    if is_call(node, functional.layer_norm, torch.layer_norm):
        given = arguments(node, "input", "normalized_shape", "weight", "bias", "eps")
        epsilon = 1e-5 if given["eps"] is None else given["eps"]
        return _of_last(node, given, "layer_norm", bias=given["bias"], epsilon=epsilon)
    if is_call(node, functional.rms_norm, torch.rms_norm):
        given = arguments(node, "input", "normalized_shape", "weight", "eps")
        found = _of_last(node, given, "rms_norm", epsilon=given["eps"])
        return found if given["eps"] is not None else None
    return _spelled_out(node)


def _of_last(node: fx.Node, given: dict[str, Any], kind: str, **numbers: Any) -> Rows | None:
    if len(given["normalized_shape"]) != 1:
        return None
    return Rows.of(node, without_dropout(given["input"]), kind, gain=given["weight"], **numbers)


def _spelled_out(node: fx.Node) -> Rows | None:
    """Llama's norm: gain * (x * rsqrt(mean(x^2) + epsilon)), computed in float32."""
    for gain, scaled in _either_way(pair(node, PRODUCTS)):
        rounded = method(scaled, "to", "type_as")
        for wide, root in _either_way(pair(scaled.args[0] if rounded else scaled, PRODUCTS)):
            if not is_call(root, torch.rsqrt):
                continue
            mean: Any
            mean, epsilon = pair(root.args[0], ADDS) or (None, None)
            square: Any = mean.args[0] if method(mean, "mean") else None
            if (
                method(square, "pow")
                and square.args == (wide, 2)
                and arguments(mean, "self", "dim", "keepdim") == _MEAN | {"self": square}
                and isinstance(epsilon, float)
                and _is_float32(wide)
                and (rounded or like(wide, node))
                and native_float(gain)
                and value(gain).dim() == 1  # type: ignore[union-attr]
            ):
                x = wide.args[0] if method(wide, "to", "float") else wide
                return Rows.of(node, x, "rms_norm", gain=gain, epsilon=epsilon, round_early=rounded)
    return None


_MEAN = {"dim": -1, "keepdim": True}


def _is_float32(node: Any) -> bool:
    found = value(node)
    return found is not None and found.dtype == torch.float32


def _either_way(operands: tuple[Any, Any] | None) -> list[tuple[Any, Any]]:
    found = [operands, operands[::-1]] if operands is not None else []
    return [both for both in found if all(isinstance(one, fx.Node) for one in both)]


def product(node: fx.Node) -> Rows | None:
    """The elementwise product that `node` is, of two tensors alike."""
    operands = pair(node, PRODUCTS)
    if operands is None or not like(*operands) or any(changed(one) for one in operands):
        return None
    return Rows.of(node, operands[0], "product", other=operands[1])


def _sum(rows: Rows) -> fx.Node | None:
    """The sum that a norm reads, its operands taken into `rows`."""
    total = rows.x
    operands = pair(total, ADDS) if rows.kind != "product" else None
    if operands is None or not all(native_float(one) and like(one, total) for one in operands):
        return None
    if any(changed(one) for one in (total, *operands)):
        return None
    rows.x, rows.given["other"] = map(without_dropout, operands)
    return total


def _replace(graph: fx.Graph, rows: Rows, total: fx.Node | None, layers: Layers | None) -> None:
    kept = total is not None and any(_outlives(user, rows.node) for user in total.users)
    given = rows.given | {"keep_sum": kept}
    with graph.inserting_before(rows.node):
        call = graph.call_function(
            torch.ops.workbench.rows_native.default,
            (rows.x, rows.kind),
            given | (layers.given if layers else NO_LAYERS),
        )
        y = graph.call_function(getitem, (call, 0))
        y.meta = dict(rows.node.meta)
        rows.node.replace_all_uses_with(y)
        if kept and total is not None:
            new = graph.call_function(getitem, (call, 1))
            new.meta = dict(total.meta)
            total.replace_all_uses_with(new, lambda user: user > call)
        for index, output in enumerate(layers.outputs if layers else []):
            if output is not None:
                made = graph.call_function(getitem, (call, 1 + kept + index))
                made.meta = dict(output.meta)
                output.replace_all_uses_with(made)
    for old in (*(layers.outputs if layers else ()), rows.node):
        if old is not None:
            discard(old)


def _outlives(user: fx.Node, norm_node: fx.Node) -> bool:
    """Whether `user` of a sum is more than a step of the norm."""
    return user > norm_node
