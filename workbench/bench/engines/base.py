"""What the benchmark asks of an engine, and the part that engines over torch modules share."""

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from workbench.bench.engines.decoding import Decoder, module_decoder
from workbench.bench.engines.tensors import duplicate, plain, tensor_bytes
from workbench.bench.schemes import Scheme
from workbench.models.loaded import share

Kind = Literal["layer", "encoder", "decoder"]
Inputs = Mapping[str, Tensor]
T = TypeVar("T")
Bind = Callable[[int], T]  # threads -> something to run with so many


@dataclass(frozen=True)
class Run:
    """One thing to time: `call` computes on inputs it holds, `output` reads its result.

    `bytes` are those of a whole model, as `Engine.bytes_of` says; a layer has none. `model` is
    what computes it, where that is a whole torch module.
    """

    call: Callable[[], Any]
    output: Callable[[Any], Tensor]
    bytes: int | None = None
    model: nn.Module | None = None


class Layer(ABC):
    """A linear layer inside an engine."""

    detail: str = ""  # which implementation runs, where the engine tells

    @abstractmethod
    def bind(self, x: Tensor, threads: int) -> Run:
        """Hold `x` [M, K] and weights of its own: two runs share no bytes of weights."""


class Engine(ABC):
    """A library that computes quantized layers, or whole models.

    `ops` are the schemes it offers for layers (see `workbench.bench.schemes`), `encoder_ops` and
    `decoder_ops` for whole models. `package` is what must be importable, `install` how a user gets
    it. Rows of an engine with `ours` must reach the SQNR that their arithmetic gives.
    `bytes_of` says what the size of a whole model counts.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    install: ClassVar[str]
    ops: ClassVar[tuple[str, ...]] = ()
    encoder_ops: ClassVar[tuple[str, ...]] = ()
    decoder_ops: ClassVar[tuple[str, ...]] = ()
    ours: ClassVar[bool] = False
    bytes_of: ClassVar[str] = "in memory"

    def obstacle(self) -> str | None:
        """Why it cannot run here, with what to do; None where it can."""
        if find_spec(self.package) is not None:
            return None
        return f"{self.package} is not installed: {self.install}"

    def offers(self, scheme: Scheme, kind: Kind = "layer") -> bool:
        """Whether it has `scheme` for a layer, or for a whole encoder or decoder."""
        ops = {"layer": self.ops, "encoder": self.encoder_ops, "decoder": self.decoder_ops}
        return scheme.op in ops[kind]

    def dtype(self, scheme: Scheme, asked: torch.dtype) -> torch.dtype:
        """The dtype of inputs and outputs where `asked` is wanted: not every engine takes all."""
        del scheme
        return asked

    @abstractmethod
    def layer(self, linear: nn.Linear, scheme: Scheme, x: Tensor) -> Layer:
        """Quantize a float32 `linear`, which stays as it is; `x` [M, K] calibrates."""

    def encoder(self, model: nn.Module, scheme: Scheme, inputs: Inputs) -> Bind[Run]:
        """Quantize a float32 encoder, which stays as it is; a run gives hidden states [1, T, D].

        For engines with `encoder_ops`.
        """
        raise NotImplementedError(f"{self.name} runs no encoders")

    def decoder(self, model: nn.Module, scheme: Scheme, ids: Tensor) -> Bind[Decoder]:
        """Quantize a float32 causal language model, which stays as it is; `ids` [1, T] prompt it.

        For engines with `decoder_ops`.
        """
        raise NotImplementedError(f"{self.name} runs no decoders")


@dataclass
class ModuleLayer(Layer):
    """A layer that is a torch module."""

    module: nn.Module
    detail: str = ""

    def bind(self, x: Tensor, threads: int) -> Run:
        del threads  # the benchmark sets those of torch
        module = duplicate(self.module)
        return Run(lambda: module(x), plain)


class ModuleEngine(Engine):
    """An engine that replaces the linears of a torch module, whatever it is part of."""

    @abstractmethod
    def convert(
        self, model: nn.Module, scheme: Scheme, calibrate: Callable[[nn.Module], object]
    ) -> nn.Module:
        """Quantize `model`, of whose modules (not parameters) this is the only owner."""

    def detail(self, model: nn.Module) -> str:
        """Which implementation runs in the linears of `model`."""
        del model
        return ""

    def module(
        self,
        model: nn.Module,
        scheme: Scheme,
        dtype: torch.dtype,
        calibrate: Callable[[nn.Module], object],
    ) -> nn.Module:
        """The quantized twin of a float32 `model`, with activations in `dtype`."""
        twin = share(model) if dtype == torch.float32 else _cast(model, dtype)
        with torch.no_grad():
            return self.convert(twin.eval(), scheme, calibrate)

    def layer(self, linear: nn.Linear, scheme: Scheme, x: Tensor) -> ModuleLayer:
        module = self.module(nn.Sequential(linear), scheme, x.dtype, lambda model: model(x))
        return ModuleLayer(module, self.detail(module))

    def encoder(self, model: nn.Module, scheme: Scheme, inputs: Inputs) -> Bind[Run]:
        dtype = self.dtype(scheme, torch.bfloat16)
        module = self.module(model, scheme, dtype, lambda m: m(**inputs))
        run = Run(
            lambda: module(**inputs),
            lambda found: plain(found.last_hidden_state),
            tensor_bytes(module),
            module,
        )
        return lambda _: run

    def decoder(self, model: nn.Module, scheme: Scheme, ids: Tensor) -> Bind[Decoder]:
        dtype = self.dtype(scheme, torch.bfloat16)
        module = self.module(model, scheme, dtype, lambda m: m(input_ids=ids))
        made = module_decoder(module, ids)
        return lambda _: made


@contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries from listing, on import and on conversion, every accelerator they miss."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Copy `model` into `dtype` without a float32 copy in between."""
    floats = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    kept = [t for t in model.buffers() if not t.is_floating_point()]
    memo: dict[int, Any] = {id(t): t for t in kept}
    for tensor in floats:
        made = tensor.detach().to(dtype)
        wrapped = nn.Parameter(made, requires_grad=False)
        memo[id(tensor)] = wrapped if isinstance(tensor, nn.Parameter) else made
    return copy.deepcopy(model, memo)
