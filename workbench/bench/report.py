"""What a benchmark leaves: rows, ceilings, what was absent, and what it was measured on."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator

from workbench.bench.caches import caches
from workbench.bench.ceilings import Ceiling
from workbench.bench.race import Timing
from workbench.compare import machine, versions
from workbench.models.atomic import write_text

PEERS = (
    "optimum-quanto", "torchao", "onnxruntime", "onnx", "openvino", "nncf", "llama-cpp-python",
)  # fmt: skip


class Row(Timing):
    """What every row of a benchmark says: who ran what, with how many threads, how long it took.

    `op` and `group_size` are those of `workbench.bench.schemes`, `bits` those of a weight.
    """

    engine: str
    op: str
    bits: int
    group_size: int | None
    threads: int
    detail: str = ""


R = TypeVar("R", bound=Row)


class Failure(BaseModel):
    """What an engine that is installed could not do, in its own words."""

    model_config = ConfigDict(frozen=True)
    engine: str
    op: str
    reason: str

    @classmethod
    def of(cls, engine: str, op: str, error: Exception) -> Self:
        """Keep the first line of what went wrong."""
        lines = str(error).strip().splitlines() or [""]
        return cls(engine=engine, op=op, reason=f"{type(error).__name__}: {lines[0][:200]}")


def _machine() -> dict[str, Any]:
    known = caches()
    sizes = {"l2_bytes": known.l2, "last_level_bytes": known.last, "cache_source": known.source}
    return {**machine(), **sizes}


def _versions() -> dict[str, str]:
    found = versions()
    for package in PEERS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


class Report(BaseModel, Generic[R]):
    """Rows and what they were measured on.

    `absent` engines are not installed, and why; `refused` is what installed ones cannot do;
    `failures` are rows of ours whose quality is not what their arithmetic gives.
    """

    rows: list[R]
    ceilings: list[Ceiling] = []
    absent: dict[str, str] = {}
    refused: list[Failure] = []
    failures: list[str] = []
    machine: dict[str, Any] = Field(default_factory=_machine)
    versions: dict[str, str] = Field(default_factory=_versions)

    @field_serializer("ceilings")
    def _by_name(self, found: list[Ceiling]) -> dict[str, Any]:
        return {f"{c.name}, threads {c.threads}": c.model_dump() for c in found}

    @field_validator("ceilings", mode="before")
    @classmethod
    def _from_names(cls, value: Any) -> Any:
        return list(value.values()) if isinstance(value, dict) else value

    def save(self, path: Path) -> None:
        """Write everything to `path` as JSON."""
        write_text(path, self.model_dump_json(indent=1) + "\n")
