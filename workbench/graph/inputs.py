"""Group the matrices of a model by the tensor they read; say what could absorb a scale on it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from workbench.graph.calls import Call, calls
from workbench.graph.matrices import Matrix, matrices
from workbench.graph.norms import gain_offset
from workbench.graph.probe import Prober
from workbench.graph.trace import Reading, Trace, trace


@dataclass(frozen=True)
class InputGroup:
    """Matrices that read one tensor of K channels, and the module that makes it.

    `linears` are the linear layers among their modules, without routers and experts. They may read
    the tensor in several forms (each its own selection of tokens, say): `watched` reads each once.
    `foldable` where a scale on the channels can be divided into the maker: into the gain of a norm
    that multiplies by `offset + weight`, or into the output channels of a linear layer. `rows` then
    has the maker's channel for each of the K, -1 where there is none. `reason` says why, or why
    not.
    """

    name: str
    linears: tuple[str, ...]
    matrices: tuple[Matrix, ...]
    watched: tuple[str, ...]
    maker: str | None
    is_norm: bool
    offset: float
    rows: tuple[int, ...]
    foldable: bool
    reason: str

    @property
    def norm(self) -> str | None:
        """The maker's name, if it is a norm."""
        return self.maker if self.is_norm else None

    def __or__(self, other: "InputGroup") -> "InputGroup":
        """Of two findings on one model the more careful: trial inputs may hide what others show."""
        return min(self, other, key=lambda group: (group.foldable, repr(group)))

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """Undo `dataclasses.asdict`, also where JSON made lists of tuples."""
        tuples = {name: tuple(found[name]) for name in ("linears", "watched", "rows")}
        made = tuple(Matrix(**matrix) for matrix in found["matrices"])
        return cls(**{**found, **tuples, "matrices": made})

    @property
    def readers(self) -> tuple[str, ...]:
        """Names of the modules that hold the matrices, in order of execution."""
        return tuple(dict.fromkeys(matrix.module for matrix in self.matrices))


@torch.no_grad()
def input_groups(model: nn.Module, batch: Mapping[str, Any]) -> list[InputGroup]:
    """Run `model(**batch)` a few times; return its input groups in order of execution.

    Nothing is known by name: norms, matrices and the ways between them are found by changing
    numbers and looking at what follows. A small batch will do. Runs in the mode the model is in,
    which should be evaluation.
    """
    found = calls(model, batch)
    matrices_of = {name: made for name, call in found.items() if (made := matrices(name, call))}
    offsets = {
        name: offset
        for name, call in found.items()
        if name not in matrices_of
        and (x := call.input) is not None
        and (offset := gain_offset(call.module, x)) is not None
    }
    traced = trace(model, batch, offsets, matrices_of)
    readings = _joined(_distinct(traced.readings), traced.leaks)
    obstacles = _Obstacles(model, found, traced, readings, matrices_of)
    prober = Prober(model, batch, {r.readers[0]: r.readers for r in readings})
    folds = _Folds(prober, {n: found[n].output for n in (*offsets, *matrices_of)})
    folds.search(
        {r.readers[0]: obstacles.makers(r) for r in readings if not obstacles.of_readers(r)}
    )
    groups = []
    for reading in readings:
        fold = folds.found.get(reading.readers[0])
        for part in [reading] if fold or not reading.parts else reading.parts:
            readers = tuple(part.readers)
            maker = fold[0] if fold else part.whole
            groups.append(
                InputGroup(
                    name=group_name(readers),
                    linears=tuple(r for r in readers if _is_linear(found[r], matrices_of[r])),
                    matrices=tuple(m for reader in readers for m in matrices_of[reader]),
                    watched=tuple(form.readers[0] for form in part.parts or (part,)),
                    maker=maker,
                    is_norm=maker in offsets,
                    offset=offsets.get(maker or "", 0.0),
                    rows=tuple(fold[1].tolist()) if fold else (),
                    foldable=fold is not None,
                    reason=f"only these read {maker}" if fold else obstacles.reason(part, reading),
                )
            )
    return groups


def _is_linear(call: Call, found: tuple[Matrix, ...]) -> bool:
    return isinstance(call.output, Tensor) and [m.parameter for m in found] == ["weight"]


def _distinct(readings: Iterable[Reading]) -> list[Reading]:
    """The readings, those of the same readers at a later call left out."""
    kept: dict[tuple[str, ...], Reading] = {}
    for reading in readings:
        reading.readers = list(dict.fromkeys(reading.readers))
        kept.setdefault(tuple(reading.readers), reading)
    return list(kept.values())


def _joined(readings: list[Reading], leaks: Mapping[str, str]) -> list[Reading]:
    """The readings, with those that show one maker's output alone, in whatever form, in one."""
    fed = Counter(maker for reading in readings for maker in reading.makers)
    alone: dict[str, list[Reading]] = {}
    for reading in readings:
        if len(reading.makers) == 1:
            alone.setdefault(next(iter(reading.makers)), []).append(reading)
    joined = []
    for reading in readings:
        maker = next(iter(reading.makers), "")
        forms = alone.get(maker, []) if reading in alone.get(maker, []) else []
        if len(forms) < 2 or len(forms) < fed[maker] or maker in leaks:
            joined.append(reading)
        elif reading is forms[0]:
            readers = list(dict.fromkeys(r for form in forms for r in form.readers))
            joined.append(Reading(reading.makers, None, readers, tuple(forms)))
    return joined


class _Obstacles:
    """What keeps makers and readers from being changed, in words."""

    def __init__(
        self,
        model: nn.Module,
        found: Mapping[str, Call],
        traced: Trace,
        readings: Iterable[Reading],
        matrices_of: Mapping[str, tuple[Matrix, ...]],
    ) -> None:
        self.tied = tied_modules(model)
        self.found = found
        self.order = list(found)  # of execution
        self.leaks = traced.leaks
        self.matrices_of = matrices_of
        self.readings = Counter(r for reading in traced.readings for r in set(reading.readers))
        self.fed = Counter(maker for reading in readings for maker in reading.makers)

    def of_module(self, name: str) -> str | None:
        """Why the parameters of this module must not change."""
        if name in self.tied or self.found[name].count > 1 or self.readings[name] > 1:
            return f"{name} shares its weight or runs more than once"
        held = self.found[name].module._parameters
        wanted = {m.parameter for m in self.matrices_of.get(name, ())} or {"weight"}
        if any(held.get(parameter) is None for parameter in wanted):
            return f"the weight of {name} is no plain parameter"
        return None

    def of_readers(self, reading: Reading) -> str | None:
        return next(filter(None, map(self.of_module, reading.readers)), None)

    def of_maker(self, maker: str) -> str | None:
        if maker in self.leaks:
            return f"{self.leaks[maker]} reads {maker} too"
        if self.fed[maker] > 1:
            return f"{maker} feeds other layers in another form"
        if any(m.parameter != "weight" for m in self.matrices_of.get(maker, ())):
            return f"{maker} holds experts"
        return self.of_module(maker)

    def makers(self, reading: Reading) -> list[str]:
        """The makers of a tensor that could absorb a scale on it."""
        order = sorted(reading.makers, key=self.order.index)
        return [maker for maker in order if self.of_maker(maker) is None]

    def reason(self, reading: Reading, joined: Reading) -> str:
        """Why nothing can be folded here, nor into all forms `joined`."""
        if (why := self.of_readers(reading)) is not None:
            return why
        if not reading.makers:
            return "no norm or linear layer makes this input"
        whys = [self.of_maker(maker) for maker in sorted(reading.makers)]
        direct = next((why for why in whys if why is not None), None)
        if direct is not None and (reading.whole is not None or len(whys) == 1):
            return direct
        made = sorted(reading.makers)
        if joined is not reading:
            return f"{made[0]} feeds other layers in another form"
        named = made[0] if len(made) == 1 else f"{made[0]} and {len(made) - 1} more"
        return f"made of {named}, of which no channel scales one channel here and nothing else"


class _Folds:
    """The search for makers whose channels become a tensor's channels one by one."""

    def __init__(self, prober: Prober, outputs: Mapping[str, Any]) -> None:
        self.prober = prober
        self.widths = {n: y.shape[-1] for n, y in outputs.items() if isinstance(y, Tensor)}
        self.found: dict[str, tuple[str, Tensor]] = {}  # reader: maker and rows

    def search(self, makers: Mapping[str, list[str]]) -> None:
        """Try, for each reader, all channels of its makers, then a part of them."""
        self._try(makers, lambda maker, _: [torch.ones(self.widths[maker], dtype=torch.bool)])
        linear: dict[str, Tensor] = {}
        for pairs in _apart(self._left(makers)):
            linear |= self.prober.linear_channels(pairs)
        self._try(makers, lambda maker, _: _partial(linear.get(maker)))
        self._try(makers, self._halves)

    def _left(self, makers: Mapping[str, list[str]]) -> dict[str, list[str]]:
        return {reader: names for reader, names in makers.items() if reader not in self.found}

    def _try(self, makers: Mapping[str, list[str]], choices: Any) -> None:
        for pairs in _apart(self._left(makers)):
            options = {m: choices(m, r) for m, r in pairs.items() if r not in self.found}
            for turn in range(max(map(len, options.values()), default=0)):
                chosen = {
                    m: some[turn]
                    for m, some in options.items()
                    if turn < len(some) and pairs[m] not in self.found
                }
                tried = {m: pairs[m] for m in chosen}
                for maker, rows in self.prober.rows(tried, self.widths, chosen).items():
                    self.found[pairs[maker]] = (maker, rows)

    def _halves(self, maker: str, reader: str) -> list[Tensor]:
        """The parts of a fused layer that is a multiple of its reader's width, in both layouts."""
        width, channels = self.widths[maker], self.prober.inputs[reader].shape[-1]
        count, rest = divmod(width, channels)
        if rest or count < 2:
            return []
        rows = torch.arange(width)
        parts = [rows // channels == k for k in range(count)]
        return [*parts, *(rows % count == k for k in range(count))]


def _partial(channels: Tensor | None) -> list[Tensor]:
    """`channels` where that is some but not all."""
    return [] if channels is None or channels.all() or not channels.any() else [channels]


def _apart(makers: Mapping[str, list[str]]) -> Iterable[dict[str, str]]:
    """Split the pairs of maker and reader so that no reader is in one part twice."""
    for turn in range(max(map(len, makers.values()), default=0)):
        # From the last: values come after queries and keys, the product's plain factor after the
        # other.
        yield {names[-1 - turn]: reader for reader, names in makers.items() if turn < len(names)}


def group_name(readers: tuple[str, ...]) -> str:
    """Name a group after its readers: `layers.0.self_attn.[q_proj k_proj v_proj]`."""
    parent = readers[0].rpartition(".")[0]
    if len(readers) == 1:
        return readers[0]
    if all(name.rpartition(".")[0] == parent for name in readers):
        return f"{parent}.[{' '.join(name.rpartition('.')[2] for name in readers)}]"
    return f"{readers[0]} +{len(readers) - 1}"


def tied_modules(model: nn.Module) -> set[str]:
    """Names of the modules with a parameter that belongs to another module, or name, too."""
    owners: dict[int, set[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        for parameter in module._parameters.values():
            if parameter is not None and parameter.numel() > 0 and not parameter.is_meta:
                owners.setdefault(parameter.data_ptr(), set()).add(name)
    return {name for names in owners.values() if len(names) > 1 for name in names}
