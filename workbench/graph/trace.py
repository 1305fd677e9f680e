"""Trace one forward: who reads each tensor that a module of interest makes or reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


@dataclass
class Reading:
    """One traced tensor: the module of interest that made it, if any, and all that read it."""

    maker: str | None = None
    readers: list[str] = field(default_factory=list)  # linear modules, in order of execution
    others: list[str] = field(default_factory=list)  # any other operation, as "module: function"
    value: Tensor | None = None


# These give the same numbers in another shape; whoever reads the result reads the tensor itself.
_VIEWS = frozenset(
    {"view", "reshape", "flatten", "unflatten", "contiguous", "to", "float", "unsqueeze", "squeeze"}
)
# Questions about a tensor, not uses of its values.
_QUESTIONS = frozenset(
    {"__get__", "size", "dim", "numel", "stride", "is_contiguous", "type", "get_device"}
)


class _Listener(TorchFunctionMode):
    """Note every function that receives a tensor under watch."""

    def __init__(self) -> None:
        super().__init__()
        self.readings: dict[int, Reading] = {}
        self.stack: list[tuple[str, nn.Module]] = []
        self.keep: list[Tensor] = []  # a freed tensor's id could come back as another's

    def watch(self, tensor: Tensor) -> Reading:
        self.keep.append(tensor)
        return self.readings.setdefault(id(tensor), Reading(value=tensor))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        if name in _QUESTIONS:
            return result
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for leaf in leaves:
            reading = self.readings.get(id(leaf))
            if reading is None:
                continue
            if isinstance(result, Tensor) and self.readings.get(id(result)) is reading:
                continue  # handed through untouched, as dropout does outside training
            if name in _VIEWS and isinstance(result, Tensor) and result.dtype == leaf.dtype:
                self.readings[id(result)] = reading
                self.keep.append(result)
            elif not (self.stack and isinstance(self.stack[-1][1], nn.Linear)):
                where = self.stack[-1][0] if self.stack else "model"
                reading.others.append(f"{where}: {name}")
        return result


def trace(
    model: nn.Module, batch: Mapping[str, Any], makers: Mapping[str, nn.Module]
) -> list[Reading]:
    """Run `model(**batch)` once; return who read the outputs of `makers` and the linears' inputs.

    Readings come in order of execution. A tensor read by no linear is listed too, so that a caller
    can say why it is left alone. Views of a tensor count as the tensor.
    """
    listener = _Listener()
    made = {id(module): name for name, module in makers.items()}
    handles = []

    def entering(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if isinstance(module, nn.Linear):
                listener.watch(next(iter((*args, *kwargs.values())))).readers.append(name)
            listener.stack.append((name, module))

        return hook

    def leaving(_: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        name, module = listener.stack.pop()
        if id(module) in made and isinstance(output, Tensor):
            reading = listener.watch(output)
            # What the module did inside is its own affair; what counts is who reads the result.
            reading.maker, reading.readers, reading.others = name, [], []

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(entering(name, module), with_kwargs=True))
        handles.append(module.register_forward_hook(leaving))
    try:
        with torch.no_grad(), listener:
            outputs = model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    for leaf in tree_leaves(dict(outputs) if isinstance(outputs, Mapping) else outputs):
        if isinstance(leaf, Tensor) and id(leaf) in listener.readings:
            listener.readings[id(leaf)].others.append("model: output")
    return list({id(r): r for r in listener.readings.values()}.values())
