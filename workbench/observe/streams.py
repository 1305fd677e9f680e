"""What else flows through a model: the residual stream, keys and values, inputs of convolutions."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workbench.graph.blocks import block_chains, hidden
from workbench.observe.seen import Seen

Kind = Literal["residual", "keys", "values", "convolution"]
STREAM_SAMPLE = 64  # tokens: enough for a picture; nothing is computed from them
Sink = Callable[["Tap", Tensor], None]


@dataclass(frozen=True)
class Tap:
    """A place where a stream is watched.

    `name` is unique. `module` is the block or convolution that it belongs to.
    """

    name: str
    kind: Kind
    module: str


@dataclass(frozen=True, kw_only=True)
class Stream(Seen):
    """What was seen at one tap: the channels of all heads side by side for keys and values."""

    tap: Tap

    @property
    def name(self) -> str:
        """The tap's name."""
        return self.tap.name


class Streams:
    """The taps of `model`, found on the example `batch`.

    The residual stream is tapped where it enters each block and where it leaves the last of them,
    keys and values as they lie in the cache of a model that has one.
    """

    def __init__(self, model: nn.Module, batch: Mapping[str, Any]) -> None:
        self.model = model
        self.options, self.chains = self._tried(batch)
        self.convolutions = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        }

    def weight_absmax(self, tap: Tap) -> Tensor:
        """The largest weight that multiplies each channel, float32 [K]; empty where none does."""
        if tap.kind != "convolution":
            return torch.empty(0)
        module = self.convolutions[tap.module]
        grouped = module.weight.detach().abs().float().unflatten(0, (module.groups, -1))
        return grouped.flatten(3).amax((1, 3)).flatten()

    @contextmanager
    def tapped(self, sink: Sink) -> Iterator[None]:
        """Hand every tensor that passes a tap inside the block to `sink`, channels last."""
        with ExitStack() as handles:

            def hook(name: str, kind: str, function: Callable[..., None]) -> None:
                register = getattr(self.model.get_submodule(name), f"register_forward_{kind}")
                handles.callback(register(function, with_kwargs=True).remove)

            for chain in self.chains:
                for name in chain:
                    hook(name, "pre_hook", partial(_entering, sink, name))
                hook(chain[-1], "hook", partial(_leaving, sink, chain[-1]))
            for name, module in self.convolutions.items():
                hook(name, "pre_hook", partial(_convolving, sink, name, module.weight.dim()))
            yield

    def take_cache(self, output: Any, sink: Sink) -> None:
        """Hand the keys and values that a forward with `options` left behind to `sink`."""
        names = self.chains[-1] if self.chains else ()
        layers = _cached(output)
        for index, (keys, values) in enumerate(layers):
            module = names[index] if len(names) == len(layers) else f"cache.{index}"
            sink(Tap(f"{module}.keys", "keys", module), keys.transpose(1, 2).flatten(2))
            sink(Tap(f"{module}.values", "values", module), values.transpose(1, 2).flatten(2))

    def _tried(self, batch: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
        """The option that makes the model leave its keys and values, if it takes it; its blocks."""
        option = {"use_cache": True}
        if hasattr(getattr(self.model, "config", None), "use_cache"):
            with suppress(TypeError, ValueError, RuntimeError):  # its own mind about caches
                return option, block_chains(self.model, {**batch, **option})
        return {}, block_chains(self.model, batch)


def _cached(output: Any) -> list[tuple[Tensor, Tensor]]:
    """Keys and values [B, H, T, D] of each layer that attends to all tokens."""
    layers = getattr(getattr(output, "past_key_values", None), "layers", None) or []
    pairs = [(getattr(one, "keys", None), getattr(one, "values", None)) for one in layers]
    whole = [
        (keys, values)
        for keys, values in pairs
        if isinstance(keys, Tensor) and isinstance(values, Tensor) and keys.dim() == 4
    ]
    return whole if len(whole) == len(pairs) else []


def _entering(sink: Sink, name: str, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
    if (x := hidden((*args, *kwargs.values()))) is not None:
        sink(Tap(f"{name}.residual", "residual", name), x)


def _leaving(sink: Sink, name: str, *called: Any) -> None:
    if (x := hidden(called[-1])) is not None:
        sink(Tap(f"{name}.residual.out", "residual", name), x)


def _convolving(
    sink: Sink, name: str, dims: int, _: nn.Module, args: Any, kwargs: dict[str, Any]
) -> None:
    x = next(iter((*args, *kwargs.values())))
    batched = x if x.dim() == dims else x.unsqueeze(0)
    sink(Tap(f"{name}.input", "convolution", name), batched.movedim(1, -1))
