"""Trace one forward: what the tensors that matrices read are made of, and where else that goes."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from workbench.graph.calls import float_tensor, output_leaves
from workbench.graph.leaves import leaves


@dataclass
class Reading:
    """One tensor that readers multiply.

    `makers` are the norms and readers it depends on directly, with no other of them between, and
    `whole` the one whose output it is, unchanged. `parts` are the readings of a maker's output in
    several forms, where this is all of them in one.
    """

    makers: frozenset[str]
    whole: str | None = None
    readers: list[str] = field(default_factory=list)  # in order of execution
    parts: tuple["Reading", ...] = ()


@dataclass
class Trace:
    """All readings in order of execution, and which makers' outputs also go elsewhere, and where.

    Elsewhere is a norm, whose result depends on all channels at once, or the model's output.
    """

    readings: list[Reading]
    leaks: dict[str, str]


# These give the same channels in another shape; whoever reads the result reads the tensor itself.
_VIEWS = frozenset(
    {"view", "reshape", "flatten", "unflatten", "contiguous", "to", "float", "unsqueeze", "squeeze"}
)


class _Listener(TorchFunctionMode):
    """Carry from arguments to results what tensors are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.makers: dict[int, frozenset[str]] = {}
        self.root: dict[int, Tensor] = {}  # of a view: the tensor that it shows
        self.first: dict[str, str] = {}  # maker: the first operation on what it made
        self.stack: list[tuple[str, bool]] = []  # modules running, and whether they are opaque
        self.keep: list[Tensor] = []  # a freed tensor's id could come back as another's

    def of(self, tensor: Tensor) -> frozenset[str]:
        """What `tensor` is made of."""
        return self.makers.get(id(tensor), frozenset())

    def mark(self, tensor: Tensor, makers: frozenset[str]) -> None:
        self.keep.append(tensor)
        self.makers[id(tensor)] = makers

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if any(opaque for _, opaque in self.stack):
            return result
        read = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = frozenset[str]().union(*(self.of(leaf) for leaf in read))
        if not made:
            return result
        name = getattr(func, "__name__", str(func))
        if name == "__setitem__":
            self._write(read[0], made)
        for leaf in leaves(result):
            if not isinstance(leaf, Tensor):
                continue
            if any(leaf is tensor for tensor in read):
                self._write(leaf, made)  # in place, or handed through
                continue
            self.mark(leaf, made)
            if name in _VIEWS and leaf.dtype == read[0].dtype:
                self.root[id(leaf)] = self.root.get(id(read[0]), read[0])
            else:
                where = self.stack[-1][0] if self.stack else "model"
                for maker in made:
                    self.first.setdefault(maker, f"{where}: {name}")
        return result

    def _write(self, tensor: Tensor, made: frozenset[str]) -> None:
        """What is written into a view is written into its base too."""
        self.mark(tensor, self.of(tensor) | made)
        if tensor._base is not None:
            self.mark(tensor._base, self.of(tensor._base) | made)


def trace(
    model: nn.Module,
    batch: Mapping[str, Any],
    norms: Collection[str],
    readers: Collection[str],
) -> Trace:
    """Run `model(**batch)` once and follow the outputs of `norms` and `readers` (module names)."""
    listener = _Listener()
    readings: dict[int, Reading] = {}
    leaks: dict[str, str] = {}
    handles = []

    def leak(makers: Iterable[str], where: str) -> None:
        for maker in makers:
            leaks.setdefault(maker, listener.first.get(maker, where))

    def entering(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = [t for v in (*args, *kwargs.values()) if (t := float_tensor(v)) is not None]
            if name in readers and given:
                tensor = listener.root.get(id(given[0]), given[0])
                makers = listener.of(tensor)
                whole = next((m for m in makers if id(tensor) == outputs.get(m)), None)
                listener.keep.append(tensor)
                reading = readings.setdefault(id(tensor), Reading(makers, whole))
                reading.readers.append(name)
                given = given[1:]
            if name in norms or name in readers:
                leak((m for tensor in given for m in listener.of(tensor)), f"{name}: forward")
            listener.stack.append((name, name in readers or name in norms))

        return hook

    outputs: dict[str, int] = {}

    def leaving(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            listener.stack.pop()
            if name in norms or name in readers:
                for leaf in output_leaves(output):
                    listener.mark(leaf, frozenset({name}))
                    outputs[name] = id(leaf)

        return hook

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(entering(name), with_kwargs=True))
        handles.append(module.register_forward_hook(leaving(name)))
    try:
        with torch.no_grad(), listener:
            found = model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    for leaf in output_leaves(found):
        leak(listener.of(leaf), "model: output")
    return Trace(list(readings.values()), leaks)
