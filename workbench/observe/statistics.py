"""Statistics of a model's tensors; `a | b` merges two observations of the same model."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.graph import InputGroup
from workbench.observe.hashes import digest
from workbench.observe.seen import Seen
from workbench.observe.streams import Stream, Tap

FORMAT = "workbench-statistics-"
VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Entry(Seen):
    """What was seen of one tensor that matrices read; `weight_absmax` is over all of them."""

    group: InputGroup

    @property
    def name(self) -> str:
        """The group's name."""
        return self.group.name

    @property
    def linears(self) -> tuple[str, ...]:
        """Full names of the linears that read this input."""
        return self.group.linears

    @property
    def norm(self) -> str | None:
        """Name of the norm that makes this input, if one does."""
        return self.group.norm

    @property
    def foldable(self) -> bool:
        """Whether a scale on this input can be folded into what makes it."""
        return self.group.foldable

    @property
    def reason(self) -> str:
        """Why it can or cannot."""
        return self.group.reason

    def __or__(self, other: Self) -> Self:
        """Merge what was seen on other data; of two findings on the graph the more careful."""
        return replace(super().__or__(other), group=self.group | other.group)


@dataclass(frozen=True)
class Statistics:
    """One `Entry` for each tensor that matrices read, in order of execution, and a small example.

    `streams` holds what else was watched: the residual stream, keys and values, the inputs of
    convolutions.
    """

    entries: dict[str, Entry]
    example: dict[str, Tensor]
    streams: dict[str, Stream] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def __getitem__(self, name: str) -> Entry:
        return self.entries[name]

    def __len__(self) -> int:
        return len(self.entries)

    def __or__(self, other: "Statistics") -> "Statistics":
        """Merge with an observation of the same model on other data; order does not matter.

        Raises WorkbenchError where the models differ, in layers or in weights.
        """
        return Statistics(
            _merged(self.entries, other.entries),
            min(self.example, other.example, key=digest),
            _merged(self.streams, other.streams),
        )

    def save(self, path: Path | str) -> None:
        """Write to a safetensors file."""
        tensors = {f"example/{k}": v for k, v in self.example.items()}
        described: dict[str, list[dict[str, Any]]] = {"entries": [], "streams": []}
        for part, rows in described.items():
            for index, seen in enumerate(getattr(self, part).values()):
                arrays = seen.arrays().items()
                tensors |= {f"{part}/{index}/{key}": a.contiguous() for key, a in arrays}
                what = seen.group if isinstance(seen, Entry) else seen.tap
                row = {"what": asdict(what), "count": seen.count, "sample_size": seen.sample_size}
                rows.append(row)
        metadata = {name: json.dumps(rows) for name, rows in described.items()}
        save_file(tensors, path, metadata=metadata | {"format": f"{FORMAT}{VERSION}"})

    @classmethod
    def load(cls, path: Path | str) -> "Statistics":
        """Read what `save` wrote; raises WorkbenchError where the file is something else."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                _check(path, metadata.get("format", ""))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError) as error:
            raise WorkbenchError(f"{path} cannot be read as statistics: {error}") from error
        entries, streams = {}, {}
        for row, numbers in _rows(metadata, tensors, "entries"):
            entry = Entry(group=InputGroup.from_dict(row), **numbers)
            entries[entry.name] = entry
        for row, numbers in _rows(metadata, tensors, "streams"):
            stream = Stream(tap=Tap(**row), **numbers)
            streams[stream.name] = stream
        example = {k.removeprefix("example/"): v for k, v in tensors.items() if "example/" in k}
        return cls(entries, example, streams)


def _merged(some: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    if some.keys() != others.keys():
        odd = sorted(some.keys() ^ others.keys())
        raise WorkbenchError(
            f"statistics of different models do not merge: {odd[0]} is in one only"
        )
    for name, seen in some.items():
        if not torch.equal(seen.weight_absmax, others[name].weight_absmax):
            raise WorkbenchError(
                "statistics of different models do not merge: the weights that read "
                f"{name} differ; observe the same checkpoint, before it is changed"
            )
    return {name: seen | others[name] for name, seen in some.items()}


def _check(path: Path | str, written: str) -> None:
    """Raise WorkbenchError where the file is of another kind or version."""
    version = written.removeprefix(FORMAT)
    if not written.startswith(FORMAT) or not version.isdigit():
        raise WorkbenchError(f"{path} holds no statistics, or they are damaged: observe the model")
    if int(version) > VERSION:
        cure = "install a newer quantization-workbench"
    elif int(version) < VERSION:
        cure = "observe the model again"
    else:
        return
    raise WorkbenchError(
        f"{path} holds statistics of format {version}; this version reads format {VERSION}: {cure}"
    )


def _rows(
    metadata: Mapping[str, str], tensors: Mapping[str, Tensor], part: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What each thing in this part of a file is, and its numbers as keywords."""
    for index, row in enumerate(json.loads(metadata[part])):
        start = f"{part}/{index}/"
        arrays = {k.removeprefix(start): a for k, a in tensors.items() if k.startswith(start)}
        numbers = {"count": row["count"], "sample_size": row["sample_size"]}
        yield row["what"], numbers | Seen.fields(arrays)
