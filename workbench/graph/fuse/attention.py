"""Softmax attention and rotary embeddings as native ops."""

from operator import getitem
from typing import Any

import torch
from torch import fx

from workbench.graph.fuse.match import (
    ADDS,
    NEGATIVES,
    PRODUCTS,
    arguments,
    discard,
    is_call,
    method,
    native_float,
    pair,
    picked,
    value,
)
from workbench.ops import attention, rotary  # noqa: F401 - they register what is called here

functional = torch.nn.functional
ARGUMENTS = (
    "query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa",
)  # fmt: skip


def fuse_attention(graph: fx.Graph) -> int:
    """Replace `scaled_dot_product_attention` by the native op; how many there were."""
    made = 0
    for node in list(graph.nodes):
        if not is_call(node, functional.scaled_dot_product_attention):
            continue
        given = arguments(node, *ARGUMENTS)
        query, key, values = given["query"], _unrepeated(given["key"]), _unrepeated(given["value"])
        if key is given["key"] or values is given["value"]:
            key, values = given["key"], given["value"]
        if given["dropout_p"] or not _can_attend(query, key, values):
            continue
        with graph.inserting_before(node):
            call = graph.call_function(
                torch.ops.workbench.attention_native.default,
                (query, key, values, given["attn_mask"], bool(given["is_causal"]), given["scale"]),
            )
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        discard(node)
        made += 1
    return made


def _can_attend(*tensors: Any) -> bool:
    found = [value(one) for one in tensors]
    return (
        all(native_float(one) for one in tensors)
        and len({one.dtype for one in found if one is not None}) == 1
        and all(one is not None and one.dim() == 4 for one in found)
    )


def _unrepeated(node: fx.Node) -> fx.Node:
    """The heads that transformers' `repeat_kv` made more of; `node` where it did not."""
    if not method(node, "reshape") or not method(node.args[0], "expand"):
        return node
    heads = picked(node.args[0].args[0], _NEW_AXIS)  # type: ignore[union-attr]
    before, after = value(heads), value(node)
    if before is None or after is None or before.dim() != 4:
        return node
    batch, count, *rest = before.shape
    expected = (batch, count, after.shape[1] // count, *rest)
    return heads if node.args[0].args[1:] == expected else node  # type: ignore[union-attr]


_NEW_AXIS = (slice(None), slice(None), None, slice(None), slice(None))


def fuse_rotary(graph: fx.Graph) -> int:
    """Rotate queries and keys in one op where both have the same angles; how many it made."""
    found: dict[tuple[fx.Node, fx.Node], list[tuple[fx.Node, fx.Node]]] = {}
    for node in graph.nodes:
        turned = _rotated(node)
        if turned is not None:
            x, cos, sin = turned
            found.setdefault((cos, sin), []).append((node, x))
    made = 0
    for (cos, sin), turns in found.items():
        # All layers have the same angles: only what is ready when the first is turned goes along.
        while turns:
            first = turns[0][0]
            now = [(node, x) for node, x in turns if x < first]
            turns = [turn for turn in turns if turn not in now]
            with graph.inserting_before(first):
                call = graph.call_function(
                    torch.ops.workbench.rotary_native.default, ([x for _, x in now], cos, sin)
                )
                outputs = [graph.call_function(getitem, (call, i)) for i in range(len(now))]
            for (node, _), output in zip(now, outputs, strict=True):
                output.meta = dict(node.meta)
                node.replace_all_uses_with(output)
                discard(node)
            made += 1
    return made


def _rotated(node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node] | None:
    """What `x * cos + cat(-second half, first half) * sin` turns, by angles [B, T, D]."""
    terms = pair(node, ADDS)
    products = [pair(term, PRODUCTS) for term in terms or ()]
    if len(products) != 2 or None in products:
        return None
    (x, cos), (turned, sin) = products  # type: ignore[misc]
    whole = value(x)
    if not (native_float(x) and whole is not None and whole.dim() == 4):
        return None
    half, odd = divmod(whole.shape[-1], 2)
    halves: Any = turned.args[0] if is_call(turned, torch.cat) else ()
    if odd or len(halves) != 2 or arguments(turned, "tensors", "dim")["dim"] != -1:
        return None
    negative, first = halves
    if not is_call(negative, *NEGATIVES):
        return None
    if picked(first, (..., slice(None, half, None))) is not x:
        return None
    if picked(negative.args[0], (..., slice(half, None, None))) is not x:
        return None
    angles = [_of_heads(one, whole.dtype) for one in (cos, sin)]
    return None if None in angles else (x, *angles)  # type: ignore[return-value]


def _of_heads(node: Any, dtype: torch.dtype) -> fx.Node | None:
    """The angles [B, T, D] that `unsqueeze(1)` gave to all heads."""
    if not method(node, "unsqueeze") or node.args[1:] != (1,):
        return None
    found = value(node.args[0])
    alike = found is not None and found.dim() == 3 and found.dtype == dtype
    return node.args[0] if alike else None  # type: ignore[no-any-return]
