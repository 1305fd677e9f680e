"""The verb tune: choose the numbers of a quantized model, layer by layer, before it is frozen."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from torch import nn

from workbench.errors import WorkbenchError
from workbench.graph import InputGroup, input_groups, tied_modules
from workbench.models.loaded import share
from workbench.observe import small_example
from workbench.progress import track
from workbench.quant import QModule, dequantize
from workbench.quant.quantize import quantized_modules
from workbench.tune.algorithm import Algorithm, Chain, chain_of
from workbench.tune.inputs import Inputs
from workbench.tune.layer import Layer, Matrix
from workbench.tune.site import Site
from workbench.tune.stream import Call, Stop, stream


@dataclass(frozen=True)
class TunedLayer:
    """What became of one layer: which algorithms chose its numbers, how well, and what to know.

    `sqnr_db` is signal over rounding noise in its output on the calibration inputs, None where
    none were needed or none came.
    """

    name: str
    algorithms: tuple[str, ...]
    sqnr_db: float | None
    reason: str


def tune(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    algorithms: Chain | Mapping[str, Chain] = "gptq",
) -> list[TunedLayer]:
    """Choose the numbers of every quantized module of `model`; return what became of each.

    `algorithms` is a name of the registry, a sequence of them that work one after the other
    (`("awq", "gptq")`), or a mapping from shell-style patterns over module names to either: the
    first match wins, no match leaves the layer to its optimizer. The `batches` (mappings of keyword
    inputs) pass each layer once, together, and later layers see what earlier ones put out with
    their integers. Afterwards calibrate and freeze as ever. Raises WorkbenchError, and leaves the
    model as it was, without anything to tune, and where an algorithm refuses.
    """
    batches = list(batches)
    modules = {n: m for n, m in quantized_modules(model) if m.weights is not None and not m.frozen}
    if not modules:
        raise WorkbenchError(
            "nothing to tune: the model holds no quantized module that is not frozen; quantize "
            "it first, freeze it last"
        )
    chains = _chains(modules, algorithms)
    streamed = [
        name
        for name, chain in chains.items()
        if isinstance(modules[name], Matrix) and any(a.needs_inputs for a in chain)
    ]
    if streamed and not batches:
        raise WorkbenchError(
            f"{streamed[0]} is tuned on inputs, and there are no batches: give some, or use an "
            "algorithm that needs none, such as 'mse'"
        )
    was_training = model.training
    model.eval()
    try:
        with _all_or_nothing(model):
            found = {
                name: _without_inputs(name, modules[name], chain)
                for name, chain in chains.items()
                if name not in streamed
            }
            if streamed:
                together = any(a.looks_at_readers for name in streamed for a in chains[name])
                groups = _groups(model, batches[0]) if together else []
                work = _Work(model, chains, groups)
                for stop in track(stream(model, batches, streamed), "tuning", len(streamed)):
                    found[stop.name] = work.tune(stop)
    finally:
        model.train(was_training)
    for name in streamed:
        found.setdefault(name, TunedLayer(name, (), None, "no batch reached it"))
    return [found[name] for name in chains]


class _Work:
    """What tuning one layer needs to know of the others that read its input."""

    def __init__(
        self, model: nn.Module, chains: dict[str, tuple[Algorithm, ...]], groups: list[InputGroup]
    ) -> None:
        self.model = model
        self.chains = chains
        self.groups = {name: group for group in groups for name in group.linears}
        self.tied = tied_modules(model)
        self.prepared: dict[str, Layer] = {}
        self.inputs: Inputs | None = None

    def tune(self, stop: Stop) -> TunedLayer:
        name, chain = stop.name, self.chains[stop.name]
        names = tuple(algorithm.name for algorithm in chain)
        if name in self.tied:
            return TunedLayer(name, (), None, "another module shares its weight")
        layer = self.prepared.pop(name, None) or self._prepare(stop)
        layer.reload(self._inputs(stop.calls, layer.module))
        if layer.inputs.count == 0:
            return TunedLayer(name, (), None, "no token reached it")
        for algorithm in chain:
            algorithm(layer)
        layer.commit()
        return TunedLayer(name, names, layer.sqnr_db(), "; ".join(layer.notes))

    def _prepare(self, stop: Stop) -> Layer:
        """Let algorithms change what all readers of the input share; keep the others' layers."""
        group, chain = self.groups.get(stop.name), self.chains[stop.name]
        readers = [stop.name] if group is None else [n for n in group.linears if n in self.chains]
        alike = [n for n in readers if self.chains[n] == chain and n not in self.tied]
        matrices = {n: self._matrix(n) for n in alike}
        layers = {n: Layer(n, m, self._inputs(stop.calls, m)) for n, m in matrices.items()}
        site = Site(self.model, list(layers.values()), stop.calls, group)
        for algorithm in chain:
            algorithm.prepare(site)
        first = layers.pop(stop.name)
        self.prepared.update(layers)
        return first

    def _inputs(self, calls: Sequence[Call], module: Matrix) -> Inputs:
        """What `calls` bring the module; readers of one tensor share what is found of it."""
        if self.inputs is None or not self.inputs.are(calls, module.input_transform):
            self.inputs = Inputs(calls, module.input_transform)
        return self.inputs

    def _matrix(self, name: str) -> Matrix:
        module = self.model.get_submodule(name)
        assert isinstance(module, Matrix)
        return module


def _chains(
    modules: Mapping[str, QModule], algorithms: Chain | Mapping[str, Chain]
) -> dict[str, tuple[Algorithm, ...]]:
    """The algorithms of each module that some pattern matches."""
    patterns = algorithms if isinstance(algorithms, Mapping) else {"*": algorithms}
    read = {pattern: chain_of(chain) for pattern, chain in patterns.items()}
    idle = [p for p in read if not any(fnmatch(name, p) for name in modules)]
    if idle:
        raise WorkbenchError(
            f"the pattern {idle[0]!r} matches none of the {len(modules)} quantized modules, such "
            f"as {next(iter(modules))!r}"
        )
    matches = {n: next((c for p, c in read.items() if fnmatch(n, p)), None) for n in modules}
    return {name: chain for name, chain in matches.items() if chain is not None}


def _without_inputs(name: str, module: QModule, chain: tuple[Algorithm, ...]) -> TunedLayer:
    able = [algorithm for algorithm in chain if not algorithm.needs_inputs]
    for algorithm in able:
        algorithm.without_inputs(module)
    left = [a.name for a in chain if a.needs_inputs]
    reason = f"{', '.join(left)} goes for linears only, not {type(module).__name__}" if left else ""
    return TunedLayer(name, tuple(a.name for a in able), None, reason)


def _groups(model: nn.Module, batch: Mapping[str, Any]) -> list[InputGroup]:
    """Who reads what, found in float: rounding would hide it."""
    twin = share(model)
    dequantize(twin)
    return input_groups(twin, {**batch, **small_example(twin, [batch])})


@contextmanager
def _all_or_nothing(model: nn.Module) -> Iterator[None]:
    """Put back what every module held where the block ends in an error or a cancel."""
    kept = [
        (m, m._parameters.copy(), m._buffers.copy(), getattr(m, "optimizer", None))
        for m in model.modules()
    ]
    try:
        yield
    except BaseException:
        for module, parameters, buffers, optimizer in kept:
            module._parameters.update(parameters)
            module._buffers.update(buffers)
            if isinstance(module, QModule):
                module.optimizer = optimizer  # type: ignore[assignment]
                module._numbers.clear()
        raise
