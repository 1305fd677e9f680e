"""Quantized layers that read one input, and the functions behind them, in one op."""

from dataclasses import dataclass
from operator import getitem
from typing import Any

import torch
from torch import fx

from workbench.graph.fuse.match import arguments
from workbench.ops.shared import OF_DTYPE

ARGUMENTS = (
    "x", "data", "scale", "zero_point", "bits", "rows", "columns", "bias", "input_scale",
    "multiplier",
)  # fmt: skip
JOINED_ARGUMENTS = (
    "x", "data", "scale", "zero_point", "bits", "rows", "columns", "bias", "activation", "digits",
    "input_scale", "multiplier",
)  # fmt: skip
OF_ROWS = (
    "data", "scale", "zero_point", "bits", "rows", "biases", "activation", "digits", "input_scale",
    "multiplier",
)  # fmt: skip
NO_LAYERS: dict[str, Any] = dict.fromkeys(OF_ROWS, ()) | {
    "bits": 8, "digits": 1, "input_scale": None, "multiplier": None,
}  # fmt: skip
DIGITS: dict[Any, int] = {
    torch.ops.workbench.a8_linear_native.default: 1,
    torch.ops.workbench.weight_only_linear_native.default: OF_DTYPE,
}
JOINED = torch.ops.workbench.linears_native.default
OPS = (*DIGITS, JOINED)
SHARED = ("x", "bits", "columns", "input_scale", "multiplier")  # by layers that can be joined

functional = torch.nn.functional
FUNCTIONS: dict[Any, str] = {
    functional.relu: "relu",
    torch.relu: "relu",
    functional.silu: "silu",
    functional.gelu: "gelu",
}


def join_layers(graph: fx.Graph) -> int:
    """Join native linear layers of one input, and functions behind them; how many ops it made."""
    groups: dict[Any, list[tuple[fx.Node, dict[str, Any]]]] = {}
    for node in graph.nodes:
        if node.op == "call_function" and node.target in DIGITS:
            given = arguments(node, *ARGUMENTS)
            key = (node.target, *(given[name] for name in SHARED))
            groups.setdefault(key, []).append((node, given))
    made = 0
    for (target, *_), members in groups.items():
        ready = [(node, given) for node, given in members if _is_ready(given, members[0][0])]
        functions = [_function_after(node) for node, _ in ready]
        if len(ready) > 1 or any(functions):
            _join(graph, ready, functions, DIGITS[target])
            made += 1
    return made


@dataclass
class Layers:
    """Layers of one input: the arguments that `rows_native` has for them, and their outputs.

    An output that nothing reads is None.
    """

    given: dict[str, Any]
    outputs: list[fx.Node | None]


def layers_of(node: fx.Node) -> Layers:
    """What the linear op `node`, one of `OPS`, computes."""
    if node.target is JOINED:
        given = arguments(node, *JOINED_ARGUMENTS)
        outputs: list[fx.Node | None] = [None] * len(given["rows"])
        for user in node.users:
            outputs[user.args[1]] = user  # type: ignore[index, call-overload]
    else:
        given = arguments(node, *ARGUMENTS)
        for name in ("data", "scale", "zero_point", "rows", "bias"):
            given[name] = [given[name]]
        given |= {"activation": ["none"], "digits": DIGITS[node.target]}
        outputs = [node]
    given["biases"] = given.pop("bias")
    return Layers({name: given[name] for name in OF_ROWS}, outputs)


def _is_ready(given: dict[str, Any], first: fx.Node) -> bool:
    """Whether what the layer holds is there before the `first` layer of its group is computed."""
    own = [given[name] for name in ("data", "scale", "zero_point", "bias")]
    held = [one for one in own if isinstance(one, fx.Node)]
    return all(one.op == "placeholder" or one < first for one in held)


def _function_after(node: fx.Node) -> fx.Node | None:
    """The activation function that alone reads the output of `node`."""
    user = next(iter(node.users), None)
    alone = len(node.users) == 1 and user is not None and user.args[:1] == (node,)
    return user if alone and _name(user) is not None else None  # type: ignore[arg-type]


def _name(node: fx.Node) -> str | None:
    name = FUNCTIONS.get(node.target) if node.op == "call_function" else None
    if name == "gelu":
        return "gelu_tanh" if node.kwargs.get("approximate", "none") == "tanh" else name
    return name


def _join(
    graph: fx.Graph,
    members: list[tuple[fx.Node, dict[str, Any]]],
    functions: list[fx.Node | None],
    digits: int,
) -> None:
    def listed(name: str) -> list[Any]:
        return [given[name] for _, given in members]

    first, shared = members[0]
    names = ["none" if one is None else _name(one) for one in functions]
    with graph.inserting_before(first):
        joined = graph.call_function(
            JOINED,
            (
                shared["x"], listed("data"), listed("scale"), listed("zero_point"), shared["bits"],
                listed("rows"), shared["columns"], listed("bias"), names, digits,
                shared["input_scale"], shared["multiplier"],
            ),
        )  # fmt: skip
        outputs = [graph.call_function(getitem, (joined, index)) for index in range(len(members))]
    for (node, _), function, output in zip(members, functions, outputs, strict=True):
        last = node if function is None else function
        output.meta = dict(last.meta)
        last.replace_all_uses_with(output)
        graph.erase_node(last)
        if function is not None:
            graph.erase_node(node)
