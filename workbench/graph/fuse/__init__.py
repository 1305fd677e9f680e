"""A backend for `torch.compile`: what lies between quantized layers becomes few native ops.

    torch.compile(model, backend="workbench")

Layers that read one input (q, k and v, or gate and up) quantize it once, and take with them the
norm or product that makes the input and the ReLU, GELU or SiLU behind them; attention and rotary
embeddings are ops that read and write what the layers do, where it lies. From the second time that
a size comes, native ops that follow each other are one call. What is left runs op by op as it is,
or all goes to another backend with `options={"inner": "inductor"}` (or the name of any). The model
itself is as before, and so is training, where nothing is fused.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch._dynamo.backends.registry import lookup_backend

from workbench.graph.fuse.attention import fuse_attention, fuse_rotary
from workbench.graph.fuse.direct import call_directly
from workbench.graph.fuse.layers import join_layers
from workbench.graph.fuse.repeat import Repeated
from workbench.graph.fuse.rows import fuse_rows
from workbench.ops import native

__all__ = ["backend", "counting", "fuse"]


_counting: list[dict[str, int]] = []


@contextmanager
def counting(counts: dict[str, int]) -> Iterator[None]:
    """Add to `counts` how many ops of each kind are made inside."""
    _counting.append(counts)
    try:
        yield
    finally:
        _counting.remove(counts)


def backend(
    graph: fx.GraphModule, inputs: list[Any], *, options: dict[str, Any] | None = None
) -> Callable[..., Any]:
    """Fuse what can be, then compile with the backend `options["inner"]`."""
    inner = (options or {}).get("inner", "eager")
    if not torch.is_grad_enabled() and native.status().problem is None:
        for kind, count in fuse(graph.graph).items():
            for counts in _counting:
                counts[kind] = counts.get(kind, 0) + count
        if inner == "eager":
            call_directly(graph.graph)
        graph.recompile()
        if inner == "eager":
            return Repeated(graph)
    return lookup_backend(inner)(graph, inputs)  # type: ignore[no-any-return]


def fuse(graph: fx.Graph) -> dict[str, int]:
    """Fuse what can be; how many ops of each kind it made."""
    made = {
        "attention": fuse_attention(graph),
        "rotary": fuse_rotary(graph),
        "layers": join_layers(graph),
        "rows": fuse_rows(graph),
    }
    graph.lint()
    return made
