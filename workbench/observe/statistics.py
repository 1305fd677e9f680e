"""Statistics of linear inputs; `a | b` merges two observations of the same model."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.graph import InputGroup
from workbench.observe.sample import digest, keep_smallest

FORMAT = "workbench-statistics-2"
_ARRAYS = ("absmax", "total", "squares", "weight_absmax", "sample", "sample_keys")


@dataclass(frozen=True)
class Entry:
    """What was seen of one tensor that matrices read, K channels wide.

    `absmax` and `weight_absmax` are float32 [K] (the latter the column maximum over all matrices of
    the group), `total` and `squares` float64 [K] sums over `count` tokens, `sample` float32 [T, K].
    """

    group: InputGroup
    count: int
    absmax: Tensor
    total: Tensor
    squares: Tensor
    weight_absmax: Tensor
    sample: Tensor
    sample_keys: Tensor
    sample_size: int

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

    @property
    def channels(self) -> int:
        """K."""
        return len(self.absmax)

    @property
    def mean(self) -> Tensor:
        """Mean of each channel, float64 [K]."""
        return self.total / self.count

    @property
    def second_moment(self) -> Tensor:
        """Mean square of each channel, float64 [K]."""
        return self.squares / self.count

    @property
    def outlier_ratio(self) -> float:
        """Largest channel's absmax over the median channel's; infinite where the median is 0."""
        median = self.absmax.median().item()
        return self.absmax.max().item() / median if median > 0 else float("inf")

    def __or__(self, other: "Entry") -> "Entry":
        """Merge what was seen on other data; of two sample sizes the smaller holds for both."""
        rows = torch.cat([self.sample, other.sample])
        keys = torch.cat([self.sample_keys, other.sample_keys])
        size = min(self.sample_size, other.sample_size)
        sample, kept = keep_smallest(rows, keys, size)
        return replace(
            self,
            group=self.group | other.group,
            sample_size=size,
            count=self.count + other.count,
            absmax=self.absmax.maximum(other.absmax),
            total=self.total + other.total,
            squares=self.squares + other.squares,
            sample=sample,
            sample_keys=kept,
        )


@dataclass(frozen=True)
class Statistics:
    """One `Entry` for each input tensor, in order of execution, and a small example batch."""

    entries: dict[str, Entry]
    example: dict[str, Tensor]

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
        if self.entries.keys() != other.entries.keys():
            odd = sorted(self.entries.keys() ^ other.entries.keys())
            raise WorkbenchError(
                f"statistics of different models do not merge: {odd[0]} is in one only"
            )
        for entry in self:
            if not torch.equal(entry.weight_absmax, other[entry.name].weight_absmax):
                raise WorkbenchError(
                    "statistics of different models do not merge: the weights that read "
                    f"{entry.name} differ; observe the same checkpoint, before it is changed"
                )
        merged = {name: entry | other[name] for name, entry in self.entries.items()}
        return Statistics(merged, min(self.example, other.example, key=digest))

    def save(self, path: Path | str) -> None:
        """Write to a safetensors file."""
        tensors = {f"example/{k}": v for k, v in self.example.items()}
        described = []
        for index, entry in enumerate(self):
            tensors |= {f"{index}/{key}": getattr(entry, key).contiguous() for key in _ARRAYS}
            described.append(
                {
                    "group": asdict(entry.group),
                    "count": entry.count,
                    "sample_size": entry.sample_size,
                }
            )
        metadata = {"format": FORMAT, "entries": json.dumps(described)}
        save_file(tensors, path, metadata=metadata)

    @classmethod
    def load(cls, path: Path | str) -> "Statistics":
        """Read what `save` wrote; raises WorkbenchError where the file is something else."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError) as error:
            raise WorkbenchError(f"{path} cannot be read as statistics: {error}") from error
        if metadata.get("format") != FORMAT:
            raise WorkbenchError(f"{path} holds no statistics that this version reads")
        entries = {}
        for index, row in enumerate(json.loads(metadata["entries"])):
            arrays = {key: tensors[f"{index}/{key}"] for key in _ARRAYS}
            entry = Entry(
                group=InputGroup.from_dict(row["group"]),
                count=row["count"],
                sample_size=row["sample_size"],
                **arrays,
            )
            entries[entry.name] = entry
        example = {k.removeprefix("example/"): v for k, v in tensors.items() if "example/" in k}
        return cls(entries, example)
