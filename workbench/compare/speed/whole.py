"""How long models take, measured so that they can be set side by side on a shared machine."""

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from workbench.compare.layers import head, linears
from workbench.compare.speed.energy import counters, joules
from workbench.compare.speed.stopwatch import WARM_UP, Stopwatch, check
from workbench.compare.speed.timing import Timing
from workbench.ops.heap import trim
from workbench.ops.resident import peak, reset_peak, resident
from workbench.ops.threads import torch_threads
from workbench.progress import track

if TYPE_CHECKING:
    from workbench.models import LoadedModel


class Speed(BaseModel):
    """Whole-model prefill and decoding, and the share of the prefill spent in linears.

    `linear_ms` adds up every linear but the one that makes the logits, which stays in float in
    every variant. An encoder decodes nothing, and a picture is 0 `prompt_tokens`. `peak_bytes` is
    the most that a prefill held on top of the model by the system's account (None off Linux);
    `prefill_joules` the median energy of the processor during one, whoever else used it (None where
    the machine does not show it).
    """

    model_config = ConfigDict(frozen=True)
    prefill_ms: Timing
    decode_ms: Timing | None
    linear_ms: Timing
    prompt_tokens: int
    threads: int
    peak_bytes: int | None = None
    prefill_joules: float | None = None


def measure(
    model: nn.Module, loaded: "LoadedModel", threads: int | None = None, runs: int = 7
) -> Speed:
    """Time one model; see `measure_all`."""
    return measure_all({"model": model}, loaded, threads, runs)["model"]


@torch.inference_mode()
def measure_all(
    models: Mapping[str, nn.Module],
    loaded: "LoadedModel",
    threads: int | None = None,
    runs: int = 7,
) -> dict[str, Speed]:
    """Time several models in turns, so that whatever disturbs the machine disturbs all of them.

    One sequence of 512 tokens (or as many as the model takes), then single tokens with the cache it
    left. `threads` (default: as many as torch uses now) holds for the measurement only.

    Raises `WorkbenchError` for fewer than 2 runs or less than one thread.
    """
    check(threads, runs)
    found = {name: _Timed(model, loaded) for name, model in models.items()}
    with torch_threads(threads) as used:
        for one in found.values():
            for _ in range(WARM_UP):
                one.run()
            one.forget()
        for _ in track(range(runs), f"speed, {used} thread{'s' if used > 1 else ''}"):
            for one in found.values():
                one.run()
        return {name: one.result(used) for name, one in found.items()}


class _Timed:
    """Collects the timings of one model."""

    def __init__(self, model: nn.Module, loaded: "LoadedModel") -> None:
        self.stopwatch = Stopwatch(model, loaded)
        self.watched = {n: m for n, m in linears(model).items() if m is not head(model)}
        self.forget()

    def forget(self) -> None:
        self.prefill: list[float] = []
        self.decode: list[float] = []
        self.linear: list[float] = []
        self.joules: list[float] = []

    def run(self) -> None:
        """Take one timing of each kind; watching linears costs, so they get their own forward."""
        before = counters()
        milliseconds, output = self.stopwatch.prefill(cache=self.stopwatch.decodes)
        if (spent := joules(before, counters())) is not None:
            self.joules.append(spent)
        self.prefill.append(milliseconds)
        if self.stopwatch.decodes:
            self.decode.append(self.stopwatch.decode(output))
        _, each = self.stopwatch.inside(self.watched)
        self.linear.append(sum(each.values()))

    def _peak(self) -> int | None:
        """Bytes that a prefill holds on top of what is held already."""
        device = next(iter(self.stopwatch.inputs.values())).device
        trim()  # what the heap only keeps would hide the peak
        before = resident(device)
        reset_peak(device)
        self.stopwatch.prefill(cache=self.stopwatch.decodes)
        highest = peak(device)
        return None if before is None or highest is None else max(highest - before, 0)

    def result(self, threads: int) -> Speed:
        return Speed(
            prefill_ms=Timing.of(self.prefill),
            decode_ms=Timing.of(self.decode) if self.decode else None,
            linear_ms=Timing.of(self.linear),
            prompt_tokens=self.stopwatch.tokens,
            threads=threads,
            peak_bytes=self._peak(),
            prefill_joules=statistics.median(self.joules) if self.joules else None,
        )
