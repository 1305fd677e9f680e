"""What a report says, as data: the JSON of it, and all that its page is made from."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from workbench.compare import Comparison, LayerTimes
from workbench.models.atomic import write_text
from workbench.models.document import read_document
from workbench.recipe import Plan
from workbench.scoreboard import Judged


class Input(BaseModel):
    """The activations that some linears read: how far the loudest channels stand out.

    `ratio` is the largest channel's absmax over the median channel's `median`; `loudest` are the
    largest channels with their absmax, largest first.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")  # JSON has no infinity
    name: str
    linears: tuple[str, ...]
    ratio: float
    median: float
    loudest: dict[int, float]


class Report(BaseModel):
    """One quantized model beside its original, and what the figures depend on.

    `command` makes the report again, of the recipe as `recipe.json`; `notices` are what a reader
    must know before any figure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal["workbench-report-1"] = "workbench-report-1"
    title: str
    kind: str
    note: str
    parameters: int
    made: datetime
    notices: list[str]
    judged: Judged
    comparison: Comparison
    layer_times: dict[str, LayerTimes] = {}  # fp32 and quantized; reports made before had none
    inputs: list[Input]
    plan: Plan
    code: str
    command: str
    limit: int | None
    seed: int
    machine: dict[str, Any]
    versions: dict[str, str]

    def to_json(self) -> str:
        """The document as JSON text."""
        return self.model_dump_json(indent=1) + "\n"

    def save(self, path: Path | str) -> None:
        """Write the document to `path`; raises WorkbenchError, the old file untouched."""
        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; raises WorkbenchError where the file is something else."""
        return read_document(
            cls,
            path,
            "{path} is not a report that this version reads ({reason}); "
            "make it anew from its recipe",
        )

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether the JSON file at `path` says of itself that it is a report, not a recipe."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(found, dict) and str(found.get("format")).startswith("workbench-report-")
