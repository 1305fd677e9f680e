"""A fused graph that is recorded when it comes a second time, and repeated from then on."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from workbench.graph.fuse.direct import FUNCTIONS
from workbench.graph.fuse.record import Repeat, record

SIZES = 8  # of inputs that are kept, each with memory of its own
_SYMBOLIC = (Tensor, torch.SymInt, torch.SymFloat, torch.SymBool)

Call = tuple["Repeated", tuple[Any, ...], Any]  # of which graph, with what, what it gave
_calls: ContextVar[list[Call] | None] = ContextVar("calls", default=None)


@contextmanager
def called() -> Iterator[list[Call]]:
    """Write down which graphs are called inside, in this thread."""
    calls: list[Call] = []
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


class Repeated:
    """What computes `graph`, as often as one likes and from several threads."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self.graph = graph
        found = [(node.op, node.meta.get("example_value")) for node in graph.graph.nodes]
        inputs = [one for op, one in found if op == "placeholder"]
        self.integers = [i for i, one in enumerate(inputs) if isinstance(one, int | torch.SymInt)]
        # Sizes may not depend on data.
        self.recordable = all(isinstance(one, Tensor | int | torch.SymInt) for one in inputs) and (
            not any(free_unbacked_symbols(one) for _, one in found if isinstance(one, _SYMBOLIC))
        )
        self.fold = True
        # Of each size what repeats it, unless a thread has taken that; None before it is recorded.
        self.ready: dict[tuple[Any, ...], list[Repeat] | None] = {}

    def __call__(self, *inputs: Any) -> Any:
        made = self._run(inputs)
        calls = _calls.get()
        if calls is not None:
            calls.append((self, inputs, made))
        return made

    def _run(self, inputs: tuple[Any, ...]) -> Any:
        if not self.recordable:
            return self.graph.forward(*inputs)
        key = (torch.get_num_threads(), *(inputs[i] for i in self.integers))
        if key not in self.ready:
            self._remember(key, None)
            return self.graph.forward(*inputs)
        ready = self.ready[key]
        if ready is None:
            return self._record(key, inputs)
        try:
            repeat = ready.pop()
        except IndexError:
            return self.graph.forward(*inputs)
        if not repeat.holds(inputs):
            self.fold = False  # what is written to once may be so again
            return self._record(key, inputs)
        try:
            return repeat.run(*inputs)
        finally:
            ready.append(repeat)

    def _record(self, key: tuple[Any, ...], inputs: tuple[Any, ...]) -> Any:
        self._remember(key, [])
        result, repeat = record(self.graph, NATIVES, inputs, fold=self.fold)
        if repeat is not None:
            self._remember(key, [repeat])
        return result

    def _remember(self, key: tuple[Any, ...], ready: list[Repeat] | None) -> None:
        self.ready[key] = ready
        while len(self.ready) > SIZES:
            self.ready.pop(next(iter(self.ready)), None)


NATIVES = set(FUNCTIONS.values())
