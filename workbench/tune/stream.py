"""Run all batches through a model side by side, stopping them together at each chosen layer."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Call:
    """What a layer was called with for one batch; `mask` tells tokens from padding, if any."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    mask: Tensor | None

    @property
    def input(self) -> Tensor:
        """The first argument, by position or by name."""
        found = next(iter((*self.args, *self.kwargs.values())))
        assert isinstance(found, Tensor)
        return found

    @property
    def rows(self) -> Tensor:
        """The input as tokens [n, K], padding left out."""
        x = self.input.detach()
        if self.mask is not None and x.shape[:-1] == self.mask.shape:
            return x[self.mask.bool()]
        return x.reshape(-1, x.shape[-1])


@dataclass
class Stop:
    """A layer with all batches waiting at its door: change it, and they go through as it is."""

    name: str
    calls: list[Call]


class _Ended(BaseException):
    """Ends the forward of a batch that has nothing more to tell; no model may catch it."""


@dataclass
class _Traveller:
    """One batch on its way through the model, in a thread of its own that runs only when let."""

    model: nn.Module
    batch: Mapping[str, Any]
    at: str | None = None
    call: Call | None = None
    result: Any = None
    ended: bool = False
    error: BaseException | None = None
    _go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _stopped: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        context = copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._travel,), daemon=True)
        self._thread.start()

    def _travel(self) -> None:
        self._go.acquire()
        _here.traveller = self
        try:
            if not self.ended:
                with torch.no_grad():
                    self.model(**self.batch)
        except _Ended:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where the batches wait for it
            self.error = error
        self.ended, self.at = True, None
        self._stopped.release()

    def proceed(self) -> None:
        """Let the batch go on to its next stop, or to its end; raises what the model raised."""
        self._go.release()
        self._stopped.acquire()
        if self.error is not None:
            raise self.error

    def wait_at(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Called in the thread of the batch: wait until the layer `name` has answered."""
        mask = self.batch.get("attention_mask")
        self.at, self.call = name, Call(args, kwargs, mask if isinstance(mask, Tensor) else None)
        self._stopped.release()
        self._go.acquire()
        if self.ended:
            raise _Ended
        found, self.result, self.call = self.result, None, None
        return found

    def end(self) -> None:
        """Give up the rest of the forward."""
        if self._thread.is_alive():
            self.ended = True
            self._go.release()
        self._thread.join()


_here = threading.local()


def stream(
    model: nn.Module, batches: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Iterator[Stop]:
    """Yield each of the layers `names` with the inputs that all batches have for it.

    Whatever was changed in a layer before the next is asked for is what the batches see from there
    on, so that later layers are tuned on what earlier ones really put out. Every layer runs once
    for each batch, and of all activations only those alive at one point of the forward are in
    memory: no assumption is made on how a model passes them on. A layer that some batches skip, as
    an expert, is yielded with the others; one that none reaches is not. A second call of a layer in
    the same forward goes straight through.
    """
    modules = {name: model.get_submodule(name) for name in names}
    order = {name: index for index, name in enumerate(names)}
    travellers = [_Traveller(model, batch) for batch in batches]
    for name, module in modules.items():
        module.forward = _door(name)
    config = getattr(model, "config", None)
    caching = getattr(config, "use_cache", None)
    try:
        if caching:
            config.use_cache = False  # type: ignore[union-attr] # keys of all layers would pile up
        for traveller in travellers:
            traveller.proceed()
        while waiting := [t for t in travellers if t.at is not None]:
            name = min((str(t.at) for t in waiting), key=order.__getitem__)
            here = [t for t in waiting if t.at == name]
            yield Stop(name, [t.call for t in here if t.call is not None])
            module = modules.pop(name)
            del module.forward
            for traveller in here:
                assert traveller.call is not None
                if not modules:
                    break
                with torch.no_grad():
                    args, kwargs = traveller.call.args, traveller.call.kwargs
                    traveller.result, traveller.at = module.forward(*args, **kwargs), None
                traveller.proceed()
            if not modules:
                break
    finally:
        for traveller in travellers:
            traveller.end()
        for module in modules.values():
            vars(module).pop("forward", None)
        if caching:
            config.use_cache = caching  # type: ignore[union-attr]


def _door(name: str) -> Any:
    def forward(*args: Any, **kwargs: Any) -> Any:
        traveller: _Traveller = _here.traveller
        return traveller.wait_at(name, args, kwargs)

    return forward
