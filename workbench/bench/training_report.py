"""What a comparison of trainers found: the document, with no trainer imported."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from workbench.compare import machine, versions
from workbench.models.atomic import write_text
from workbench.models.document import read_document

PLAIN = "transformers"


class TrainRow(BaseModel):
    """One run; `ratio` is how many times faster it was than transformers' trainer in its turns.

    `error` is the standard error of that, `processor_ratio` the same in time on the processor,
    which other processes disturb less; `with_compile` the ratio with what compiling took.
    `parity` compares the held-out loss at the end with those of transformers' trainer by seed.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    seed: int
    kept: tuple[str, ...]
    refused: dict[str, str] = {}
    samples_s: float
    tokens_s: float
    ratio: float
    error: float
    processor_ratio: float
    with_compile: float
    compile_s: float
    peak_bytes: int | None
    losses: tuple[float, ...]
    held_out: float
    parity: str


class TrainReport(BaseModel):
    """All runs on one subject; `failed` names those that broke, and why."""

    model_config = ConfigDict(frozen=True)
    subject: str
    what: str
    steps: int
    batch: int
    threads: int
    rows: tuple[TrainRow, ...]
    failed: dict[str, str] = {}
    machine: dict[str, Any] = Field(default_factory=machine)
    versions: dict[str, str] = Field(default_factory=versions)

    def save(self, path: Path) -> None:
        """Write everything to `path` as JSON."""
        write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; raises WorkbenchError where the file is something else."""
        return read_document(
            cls,
            path,
            "{path} holds no comparison of trainers that this version reads; make it anew: "
            "workbench train-bench",
        )

    @property
    def plain(self) -> list[TrainRow]:
        """The runs of transformers' trainer, one for each seed."""
        return [row for row in self.rows if row.name == PLAIN]
