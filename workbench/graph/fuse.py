"""A backend for `torch.compile`: quantized layers that read one input quantize it once.

    torch.compile(model, backend="workbench")

q, k and v, or gate and up, become one op, and so does a layer with the ReLU, GELU or SiLU behind
it; what is left goes to another backend, inductor unless `options={"inner": "eager"}` or the name
of any other is given. The model itself is as before, and so is training, where nothing is fused.
"""

from collections.abc import Callable
from operator import getitem
from typing import Any

import torch
from torch import fx
from torch._dynamo.backends.registry import lookup_backend

from workbench.ops.shared import OF_DTYPE

ARGUMENTS = (
    "x", "data", "scale", "zero_point", "bits", "rows", "columns", "bias", "input_scale",
    "multiplier",
)  # fmt: skip
SHARED = ("x", "bits", "columns", "input_scale", "multiplier")  # by layers that can be joined

functional = torch.nn.functional
FUNCTIONS: dict[Any, str] = {
    functional.relu: "relu",
    torch.relu: "relu",
    functional.silu: "silu",
    functional.gelu: "gelu",
}


def backend(
    graph: fx.GraphModule, inputs: list[Any], *, options: dict[str, Any] | None = None
) -> Callable[..., Any]:
    """Fuse what can be, then compile with the backend `options["inner"]`."""
    if not torch.is_grad_enabled():
        join_layers(graph.graph)
        graph.recompile()
    inner = lookup_backend((options or {}).get("inner", "inductor"))
    return inner(graph, inputs)  # type: ignore[no-any-return]


def join_layers(graph: fx.Graph) -> int:
    """Join native linear layers of one input, and functions behind them; how many ops it made."""
    digits = {
        torch.ops.workbench.a8_linear_native.default: 1,
        torch.ops.workbench.weight_only_linear_native.default: OF_DTYPE,
    }
    groups: dict[Any, list[tuple[fx.Node, dict[str, Any]]]] = {}
    for node in graph.nodes:
        if node.op == "call_function" and node.target in digits:
            given = dict.fromkeys(ARGUMENTS) | dict(zip(ARGUMENTS, node.args, strict=False))
            given |= node.kwargs
            key = (node.target, *(given[name] for name in SHARED))
            groups.setdefault(key, []).append((node, given))
    made = 0
    for (target, *_), members in groups.items():
        ready = [(node, given) for node, given in members if _is_ready(given, members[0][0])]
        functions = [_function_after(node) for node, _ in ready]
        if len(ready) > 1 or any(functions):
            _join(graph, ready, functions, digits[target])
            made += 1
    graph.lint()
    return made


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
            torch.ops.workbench.linears_native.default,
            (
                shared["x"], listed("data"), listed("scale"), listed("zero_point"), shared["bits"],
                listed("rows"), shared["columns"], listed("bias"), names, digits,
                shared["input_scale"], shared["multiplier"],
            ),
        )  # fmt: skip
        outputs = [graph.call_function(getitem, (joined, index)) for index in range(len(members))]
    for (node, _), function, output in zip(members, functions, outputs, strict=True):
        last = node if function is None else function
        last.replace_all_uses_with(output)
        graph.erase_node(last)
        if function is not None:
            graph.erase_node(node)
