"""How many samples a second a model gets through: forms, batch sizes, instances that share it."""

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field

from workbench.compare import Throughput, machine, model_named, throughput, versions
from workbench.compare.machine import usable_cores
from workbench.errors import WorkbenchError
from workbench.models import save
from workbench.models.atomic import write_text
from workbench.progress import track
from workbench.recipe import Recipe
from workbench.session import Session

SAMPLES = 64  # sequences or sentences; each instance count and form runs the same ones
LENGTH = 128  # tokens of a sequence; sentences are as long as they are


class ThroughputRow(Throughput):
    """One form of one model with one batch size: whole sequences forward, nothing is decoded."""

    model: str
    form: str
    batch_size: int


class ThroughputReport(BaseModel):
    """Every row of a run, with what it was measured on; `seed` drew the samples."""

    rows: list[ThroughputRow]
    seed: int
    machine: dict[str, Any] = Field(default_factory=machine)
    versions: dict[str, str] = Field(default_factory=versions)

    def save(self, path: Path) -> None:
        """Write everything to `path` as JSON."""
        write_text(path, self.model_dump_json(indent=1) + "\n")


def measure_throughput(
    recipes: Mapping[str, Recipe],
    batch_sizes: Sequence[int] = (1, 8),
    instances: Sequence[int] = (),
    *,
    seed: int = 0,
) -> ThroughputReport:
    """Measure each recipe's model in fp32, in bf16 and frozen, from files that all instances map.

    `instances` (default: one, and one for each core) divide the cores of this process among
    themselves; what does not divide is left idle. Raises WorkbenchError where there are more
    instances than cores.
    """
    cores = len(usable_cores())
    counts = list(instances) or sorted({1, cores})
    if min(counts) < 1 or max(counts) > cores or min(batch_sizes) < 1:
        raise WorkbenchError(
            f"instances are {counts} and batch sizes {list(batch_sizes)}; allowed: 1 to {cores} "
            "instances, one for each core of this process, and batches of at least 1."
        )
    rows: list[ThroughputRow] = []
    for name, recipe in track(list(recipes.items()), "models"):
        with tempfile.TemporaryDirectory() as folder:
            session = Session(recipe)
            try:
                loaded = session.load()
                frozen = str(save(session.freeze(), Path(folder) / "frozen"))
            finally:
                session.close()
            forms = {
                "fp32": partial(model_named, recipe.model),
                "bf16": partial(model_named, recipe.model, torch.bfloat16),
                "quantized": partial(model_named, frozen),
            }
            cases = [(size, count) for size in batch_sizes for count in counts]
            for size, count in cases:
                batches = loaded.batches(
                    "evaluation", samples=SAMPLES, length=LENGTH, batch_size=size, seed=seed
                )
                for form, load in forms.items():
                    found = throughput(load, batches, instances=count, threads=cores // count)
                    rows.append(
                        ThroughputRow(model=name, form=form, batch_size=size, **found.model_dump())
                    )
    return ThroughputReport(rows=rows, seed=seed)
