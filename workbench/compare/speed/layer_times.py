"""Where the time of a prefill goes, layer by layer."""

import statistics
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from workbench.compare.layers import linears
from workbench.compare.speed.stopwatch import WARM_UP, Stopwatch, check
from workbench.compare.speed.timing import Timing
from workbench.ops.threads import torch_threads
from workbench.progress import track

if TYPE_CHECKING:
    from workbench.models import LoadedModel


class LayerTimes(BaseModel):
    """Where the time of a prefill goes: median milliseconds of each linear, and of the whole.

    Both are of forwards in which every linear was watched, so that shares add up to less than 1.
    """

    model_config = ConfigDict(frozen=True)
    layers: dict[str, float]
    prefill_ms: Timing
    prompt_tokens: int
    threads: int

    @property
    def rest(self) -> float:
        """Milliseconds outside of the linears: attention, norms, activations, embeddings."""
        return self.prefill_ms.median - sum(self.layers.values())

    def share(self, name: str) -> float | None:
        """The share of a layer in the whole, 0..1; None for a layer that did not run."""
        milliseconds = self.layers.get(name)
        return None if milliseconds is None else milliseconds / self.prefill_ms.median


@torch.inference_mode()
def measure_layers(
    model: nn.Module, loaded: "LoadedModel", threads: int | None = None, runs: int = 7
) -> LayerTimes:
    """Time every linear of `model`, the head included, in prefills of one sequence.

    Arguments and errors as in `measure_all`.
    """
    check(threads, runs)
    stopwatch = Stopwatch(model, loaded)
    wholes: list[float] = []
    parts: dict[str, list[float]] = {}
    with torch_threads(threads) as used:
        for run in track(range(runs + WARM_UP), "timing layers"):
            whole, each = stopwatch.inside(linears(model))
            if run >= WARM_UP:
                wholes.append(whole)
                for name, milliseconds in each.items():
                    parts.setdefault(name, []).append(milliseconds)
    return LayerTimes(
        layers={name: statistics.median(taken) for name, taken in parts.items()},
        prefill_ms=Timing.of(wholes),
        prompt_tokens=stopwatch.tokens,
        threads=used,
    )
