"""A fused graph that is recorded for sizes of inputs that come often, and repeated from then on."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from workbench.graph.fuse.arena import Memory
from workbench.graph.fuse.direct import FUNCTIONS
from workbench.graph.fuse.newest import Newest
from workbench.graph.fuse.record import Repeat, record

SIZES = 256  # of inputs that are known at once
OFTEN = 8  # calls with inputs of a size, after which it is recorded: that costs a few calls
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
    """What computes `graph`, as often as one likes and from several threads.

    All sizes of inputs share one piece of memory, so that repeats wait for nobody: a thread that
    finds it in use computes without it.
    """

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
        self.memory = Memory()
        self.using = Lock()
        # Of each size how often it came, then what repeats it; None where nothing can.
        self.sizes: Newest[tuple[Any, ...], int | Repeat | None] = Newest(SIZES)

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
        known = self.sizes.get(key, 0)
        if isinstance(known, int) and known + 1 < OFTEN:
            self.sizes[key] = known + 1
            return self.graph.forward(*inputs)
        if isinstance(known, int):
            return self._record(key, inputs)
        if known is None or not self.using.acquire(blocking=False):
            return self.graph.forward(*inputs)
        try:
            if known.holds(inputs):
                return known.run(*inputs)
        finally:
            self.using.release()
        self.fold = False  # what is written to once may be so again
        return self._record(key, inputs)

    def _record(self, key: tuple[Any, ...], inputs: tuple[Any, ...]) -> Any:
        result, repeat = record(self.graph, NATIVES, inputs, self.memory, fold=self.fold)
        self.sizes[key] = repeat
        return result


NATIVES = set(FUNCTIONS.values())
