"""Calls of a compiled model that go straight to its graph, for inputs like those of a call before.

torch.compile asks hundreds of questions on each call and fetches each weight through the modules
that lead to it: memory that the kernels have just pushed out of the caches, which costs a small
encoder a twentieth of its time. Of a call with tensors and constants alone it is written down what
of the inputs and the weights its graph read and where the outputs went. Each call looks whether the
weights are those still.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import getitem, is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from workbench.graph.fuse.newest import Newest
from workbench.graph.fuse.repeat import Repeated, called
from workbench.ops.watched import is_watched

SIZES = 1024  # of inputs that are kept; a few kilobytes each


class Shortcut:
    """What calls `model`, which `compiled` does as well."""

    def __init__(self, model: nn.Module, compiled: Callable[..., Any]) -> None:
        self.model, self.compiled = model, compiled
        self.paths: Newest[Any, _Path | None] = Newest(SIZES)  # by inputs; None where there is none

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # as a part of what is compiled
            return self.compiled(*args, **kwargs)
        values = (*args, *kwargs.values())
        key = self._key(values, kwargs)
        if key is None:
            return self.compiled(*args, **kwargs)
        try:
            path = self.paths[key]
        except KeyError:
            return self._explore(key, values, args, kwargs)
        if path is None:
            return self.compiled(*args, **kwargs)
        if not path.is_open():
            self.paths.forget(key)
            return self.compiled(*args, **kwargs)
        return path.take(values)

    def _key(self, values: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a path is for; None where calls are of another kind."""
        if torch.is_grad_enabled() or self.model.training:
            return None
        kinds: list[Any] = []
        first: dict[int, int] = {}
        for index, value in enumerate(values):
            if type(value) is Tensor:
                if not value.is_cpu or is_watched(value):
                    return None
                same = first.setdefault(id(value), index)  # given twice, graphs read it once
                kinds.append((value.shape, value.stride(), value.dtype, same))
            elif value is None or isinstance(value, bool | int | float | str):
                kinds.append((type(value), value))
            else:
                return None
        state = torch.get_default_dtype(), torch.is_autocast_enabled("cpu")
        return *state, *kwargs, *kinds

    def _explore(self, key: Any, values: Any, args: Any, kwargs: Any) -> Any:
        before = list(_attributes(self.model))
        with called() as calls:
            found = self.compiled(*args, **kwargs)
        after = list(_attributes(self.model))
        pure = len(before) == len(after) and all(map(is_, before, after))
        path = _path(self.model, values, found, *calls[0]) if pure and len(calls) == 1 else None
        self.paths[key] = path
        return found


@dataclass
class _Path:
    graph: Repeated
    inputs: list[Any]  # those of a call: weights, and whatever else does not change
    given: list[tuple[int, int]]  # which of them is which value of a call
    places: tuple[list[dict[str, Any]], list[str], list[Tensor]]  # where which weights are
    outputs: list[int | None]
    form: TreeSpec

    def is_open(self) -> bool:
        """Whether each weight is where it was."""
        holders, names, weights = self.places
        try:
            return all(map(is_, map(getitem, holders, names), weights))
        except KeyError:
            return False

    def take(self, values: tuple[Any, ...]) -> Any:
        inputs = self.inputs.copy()
        for at, index in self.given:
            inputs[at] = values[index]
        made = self.graph(*inputs)
        leaves = [None if index is None else made[index] for index in self.outputs]
        return tree_unflatten(leaves, self.form)


def _path(
    model: nn.Module, values: Any, found: Any, graph: Repeated, inputs: Any, made: Any
) -> _Path | None:
    """The way from `values` to what was `found`; None where more than tensors took part."""
    weights = {id(x) for _, _, x in _weights(model)}
    given = {id(x): index for index, x in enumerate(values) if type(x) is Tensor}
    read = {id(x) for x in inputs}
    places = [at for at in _weights(model) if id(at[2]) in read]
    leaves, form = tree_flatten(found)
    sources = {id(x): index for index, x in enumerate(made)}
    if not all(type(x) is int or id(x) in weights or id(x) in given for x in inputs):
        return None
    if not all(x is None or id(x) in sources for x in leaves):
        return None
    return _Path(
        graph,
        [None if id(x) in given else x for x in inputs],
        [(at, given[id(x)]) for at, x in enumerate(inputs) if id(x) in given],
        ([at[0] for at in places], [at[1] for at in places], [at[2] for at in places]),
        [None if x is None else sources[id(x)] for x in leaves],
        form,
    )


def _weights(model: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """Each parameter and buffer, with the dictionary and the name that hold it."""
    for module in model.modules():
        for holder in (module._parameters, module._buffers):
            yield from ((holder, name, x) for name, x in holder.items() if x is not None)


def _attributes(model: nn.Module) -> Iterator[Any]:
    """All that modules hold, to see whether a call changes them; lists and dictionaries opened."""
    for module in model.modules():
        for value in vars(module).values():
            yield value
            yield from value.values() if isinstance(value, dict) else ()
            yield from value if isinstance(value, list) else ()
