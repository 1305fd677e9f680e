"""What every export format is, and what it is given."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from workbench.errors import WorkbenchError


@dataclass(frozen=True)
class Job:
    """A model to export, its tokenizer if it has one, and keyword inputs to trace it with."""

    model: nn.Module
    tokenizer: Any = None
    example: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class Exported:
    """Where an export lies, its bytes, and what an engine that loads it will do otherwise."""

    folder: Path
    format: str
    bytes: int
    notes: tuple[str, ...] = ()


class Exporter(ABC):
    """One format; `packages` are those it imports, `install` brings them."""

    name: ClassVar[str]
    what: ClassVar[str]  # in a line, for the command line
    packages: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""

    @abstractmethod
    def check(self, job: Job) -> None:
        """Raise WorkbenchError, naming layer and rule, where the format cannot hold the model."""

    @abstractmethod
    def write(self, job: Job, folder: Path) -> tuple[str, ...]:
        """Write into the empty `folder` what `check` let pass; return notes for the user."""


def refuse(layer: str, found: str, rule: str, advice: str) -> WorkbenchError:
    """The refusal of one layer."""
    return WorkbenchError(f"{layer} {found}; {rule}: {advice}")


def check_widths(model: nn.Module, engine: str) -> None:
    """Raise WorkbenchError where `engine`, which builds models by their config, could not."""
    from workbench.models.hf.shapes import shapes_of  # beside quantizers, which take long to import

    for name, (rows, columns) in shapes_of(getattr(model, "config", None))["linears"].items():
        raise refuse(
            name,
            f"is pruned to {rows} x {columns}",
            f"{engine} builds a model by its config, which has no word for that",
            "export it as onnx or openvino",
        )
