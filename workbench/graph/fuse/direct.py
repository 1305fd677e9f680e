"""Native ops called as the functions they are, where nothing of torch has to see them.

Its dispatcher costs microseconds a call, which is what a small layer takes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from workbench.ops import implementations
from workbench.ops.attention import attention_native
from workbench.ops.linear import Arguments
from workbench.ops.rotary import rotary_native
from workbench.ops.rows import rows_native
from workbench.ops.shared import linears_native


def _spread(function: Callable[[Any], Tensor]) -> Callable[..., Tensor]:
    def call(*given: Any) -> Tensor:
        return function(Arguments(*given))

    return call


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.workbench.attention_native.default: attention_native,
    torch.ops.workbench.linears_native.default: linears_native,
    torch.ops.workbench.rotary_native.default: rotary_native,
    torch.ops.workbench.rows_native.default: rows_native,
}
for _one in implementations:
    if _one.panels and _one.op != "embedding":
        FUNCTIONS[_one.overload] = _spread(_one.function)


def call_directly(graph: fx.Graph) -> None:
    """Let `graph`, which is run as it is and not compiled further, call the functions."""
    for node in graph.nodes:
        if node.op == "call_function":
            node.target = FUNCTIONS.get(node.target, node.target)
