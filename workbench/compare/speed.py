"""How long models take, measured so that they can be set side by side on a shared machine."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from workbench.compare.layers import head, linears
from workbench.errors import WorkbenchError
from workbench.ops.threads import torch_threads
from workbench.progress import track

if TYPE_CHECKING:
    from workbench.models import LoadedModel

PREFILL_TOKENS = 512
DECODE_TOKENS = 16
WARM_UP = 2


class Timing(BaseModel):
    """The median of `runs` timings in milliseconds, with the quartiles as its spread.

    `samples` are the timings themselves, in the order in which they were taken.
    """

    model_config = ConfigDict(frozen=True)
    median: float
    low: float
    high: float
    runs: int
    samples: tuple[float, ...] = ()

    @property
    def drift(self) -> float | None:
        """By how much the medians of odd and even runs differ, as a share; None of too few runs.

        Nothing changed between them but the machine: a difference between two models that is no
        greater means nothing.
        """
        if len(self.samples) < 4:
            return None
        odd, even = statistics.median(self.samples[::2]), statistics.median(self.samples[1::2])
        return abs(odd / even - 1)

    @classmethod
    def of(cls, milliseconds: list[float]) -> "Timing":
        """Summarise at least two timings."""
        low, median, high = statistics.quantiles(milliseconds, n=4, method="inclusive")
        return cls(
            median=median,
            low=low,
            high=high,
            runs=len(milliseconds),
            samples=tuple(milliseconds),
        )


class Speed(BaseModel):
    """Whole-model prefill and decoding, and the share of the prefill spent in linears.

    `linear_ms` adds up every linear but the one that makes the logits, which stays in float in
    every variant. An encoder decodes nothing, and a picture is 0 `prompt_tokens`.
    """

    model_config = ConfigDict(frozen=True)
    prefill_ms: Timing
    decode_ms: Timing | None
    linear_ms: Timing
    prompt_tokens: int
    threads: int


class LayerTimes(BaseModel):
    """Where the time of a prefill goes: median milliseconds of each linear, and of the whole.

    Both are of forwards in which every linear was watched, so that shares add up to less than 1.
    """

    model_config = ConfigDict(frozen=True)
    layers: dict[str, float]
    prefill_ms: Timing
    prompt_tokens: int
    threads: int

    def share(self, name: str) -> float | None:
        """The share of a layer in the whole, 0..1; None for a layer that did not run."""
        milliseconds = self.layers.get(name)
        return None if milliseconds is None else milliseconds / self.prefill_ms.median


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
    _check(threads, runs)
    inputs = _prompt(loaded)
    stopwatches = {name: _Stopwatch(model, inputs) for name, model in models.items()}
    with torch_threads(threads) as used:
        for stopwatch in stopwatches.values():
            for _ in range(WARM_UP):
                stopwatch.run()
            stopwatch.forget()
        for _ in track(range(runs), f"speed, {used} thread{'s' if used > 1 else ''}"):
            for stopwatch in stopwatches.values():
                stopwatch.run()
    return {name: stopwatch.result(used) for name, stopwatch in stopwatches.items()}


@torch.inference_mode()
def measure_layers(
    model: nn.Module, loaded: "LoadedModel", threads: int | None = None, runs: int = 7
) -> LayerTimes:
    """Time every linear of `model`, the head included, in prefills of one sequence.

    Arguments and errors as in `measure_all`.
    """
    _check(threads, runs)
    stopwatch = _Stopwatch(model, _prompt(loaded))
    wholes: list[float] = []
    parts: dict[str, list[float]] = {}
    with torch_threads(threads) as used:
        for run in track(range(runs + WARM_UP), "timing layers"):
            with _watched(linears(model)) as spent:
                whole, _ = _time(partial(stopwatch.prefill_once, cache=False))
            if run >= WARM_UP:
                wholes.append(whole)
                for name, seconds in spent.items():
                    parts.setdefault(name, []).append(1e3 * seconds)
    return LayerTimes(
        layers={name: statistics.median(taken) for name, taken in parts.items()},
        prefill_ms=Timing.of(wholes),
        prompt_tokens=stopwatch.tokens,
        threads=used,
    )


def _check(threads: int | None, runs: int) -> None:
    if runs < 2:
        raise WorkbenchError(f"runs is {runs}; a median with a spread needs at least 2.")
    if threads is not None and threads < 1:
        raise WorkbenchError(f"threads is {threads}; give at least 1, or None for all.")


def _prompt(loaded: "LoadedModel") -> dict[str, Tensor]:
    """One unpadded evaluation sequence, leaving room for the tokens to decode; or one picture."""
    if loaded.kind == "image-classifier":
        from PIL import Image

        return loaded.picture_batches([Image.new("RGB", (64, 64))])[0]
    limit = getattr(loaded.model.config, "max_position_embeddings", None)
    if loaded.kind == "causal-lm":
        length = min(PREFILL_TOKENS, (limit or PREFILL_TOKENS + DECODE_TOKENS) - DECODE_TOKENS)
        batch = loaded.batches("evaluation", samples=1, length=length, batch_size=1)[0]
        return {"input_ids": batch["input_ids"]}
    length = min(PREFILL_TOKENS, limit or PREFILL_TOKENS)
    text = " ".join(loaded.sentences("evaluation"))
    ids = loaded.tokenizer(text, truncation=True, max_length=length, return_tensors="pt")
    return {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"]}


class _Stopwatch:
    """Collects the timings of one model."""

    def __init__(self, model: nn.Module, inputs: dict[str, Tensor]) -> None:
        self.model, self.inputs = model, inputs
        output_head = head(model)
        self.decodes = output_head is not None
        self.watched = {n: m for n, m in linears(model).items() if m is not output_head}
        self.forget()

    @property
    def tokens(self) -> int:
        """Tokens of the prompt; 0 of a picture."""
        return self.inputs["input_ids"].shape[1] if "input_ids" in self.inputs else 0

    def forget(self) -> None:
        self.prefill: list[float] = []
        self.decode: list[float] = []
        self.linear: list[float] = []

    def run(self) -> None:
        """Take one timing of each kind; watching linears costs, so they get their own forward."""
        milliseconds, output = _time(partial(self.prefill_once, cache=self.decodes))
        self.prefill.append(milliseconds)
        if self.decodes:
            self.decode.append(self._decode(output))
        with _watched(self.watched) as spent:
            self.prefill_once(cache=False)
        self.linear.append(1e3 * sum(spent.values()))

    def prefill_once(self, *, cache: bool) -> Any:
        """Run the prompt."""
        if self.decodes:
            return self.model(**self.inputs, use_cache=cache)
        return self.model(**self.inputs)

    def _decode(self, output: Any) -> float:
        """Milliseconds per token over greedy steps of one token each."""
        cache, total = output.past_key_values, 0.0
        for _ in range(DECODE_TOKENS):
            token = output.logits[:, -1:].argmax(-1)
            step = partial(self.model, input_ids=token, past_key_values=cache, use_cache=True)
            milliseconds, output = _time(step)
            total += milliseconds
        return total / DECODE_TOKENS

    def result(self, threads: int) -> Speed:
        return Speed(
            prefill_ms=Timing.of(self.prefill),
            decode_ms=Timing.of(self.decode) if self.decodes else None,
            linear_ms=Timing.of(self.linear),
            prompt_tokens=self.tokens,
            threads=threads,
        )


def _time(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return 1e3 * (time.perf_counter() - start), result


@contextmanager
def _watched(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, float]]:
    """Collect the seconds that each of `modules` takes, by wrapping its `forward`."""
    spent: dict[str, float] = {}

    def wrap(name: str, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def timed(*args: Any, **kwargs: Any) -> Tensor:
            start = time.perf_counter()
            result = forward(*args, **kwargs)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
            return result

        return timed

    try:
        for name, module in modules.items():
            module.forward = wrap(name, module.forward)  # type: ignore[method-assign]
        yield spent
    finally:
        for module in modules.values():
            module.__dict__.pop("forward", None)
