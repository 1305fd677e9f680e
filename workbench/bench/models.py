"""Whole models in many engines: encoders forward, decoders prefill and one token at a time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workbench import metrics
from workbench.bench.engines import (
    Bind,
    Decoder,
    Engine,
    ModuleEngine,
    Run,
    compiled_decoder,
    quiet,
)
from workbench.bench.layers import default_threads, pick
from workbench.bench.race import race
from workbench.bench.report import Failure, Report, Row
from workbench.bench.schemes import Scheme, schemes
from workbench.bench.subjects import subjects
from workbench.errors import WorkbenchError
from workbench.graph.compile import compile  # noqa: A004 - torch's own name
from workbench.models.loaded import share
from workbench.ops.threads import torch_threads
from workbench.progress import track

Phase = Literal["forward", "prefill", "decode"]
LEAST_ROUNDS = 5
MOST_GRAPHS = 256  # compiled from one forward that all schemes share; past 8 torch gives up


class ModelRow(Row):
    """One model in one engine and scheme, in one phase; `decode` is the time of one token.

    `cosine` is the mean over tokens of the hidden states against float32, `kl` the mean over the
    prompt of the next token's distribution from float32's, in nats. `compiled` by torch.compile.
    `bytes` are those of the whole model as the engine runs it, `bytes_of` what was counted: its
    weights "in memory", the "file" that the engine reads, or the constants of its "graph".
    """

    model: str
    phase: Phase
    compiled: bool
    tokens: int
    cosine: float | None = None
    kl: float | None = None
    bytes: int | None = None
    bytes_of: str = ""


class ModelReport(Report[ModelRow]):
    """Every row of a run, with what it was measured on."""


@dataclass(frozen=True)
class _Contender:
    """A model in an engine; `bind` gives what to run with a number of threads."""

    engine: Engine
    scheme: Scheme
    compiled: bool
    bind: Bind[Any]

    @property
    def name(self) -> str:
        ending = " compiled" if self.compiled else ""
        return f"{self.engine.name} {self.scheme.op} {self.scheme.bits}{ending}"


@torch.no_grad()  # as `generate` of transformers runs, and all peers can
def measure_models(
    models: Iterable[str] = (),
    threads: Sequence[int] = (),
    names: Iterable[str] = (),
    bits: Iterable[int] = (8, 4),
    compiled: bool = False,
    seconds: float = 20.0,
) -> ModelReport:
    """Measure whole models (default: all of `subjects`), those of a kind in turns.

    Quantized models compute in bfloat16 around the quantized layers; ours run as they are and as
    `workbench.compile` has them. `compiled` adds torch.compile for encoders of all other engines
    over torch modules. `seconds` are for one model, phase and number of threads, at least 5 rounds;
    building comes on top. Raises WorkbenchError for an unknown name.
    """
    wanted = list(models) or list(subjects)
    unknown = [name for name in wanted if name not in subjects]
    if unknown:
        raise WorkbenchError(f"no model {unknown[0]!r} here; allowed: {', '.join(subjects)}")
    chosen, absent = pick(names)
    rows: list[ModelRow] = []
    refused: list[Failure] = []
    for name in wanted:
        found, failures = _measure(
            name, chosen, schemes(bits), threads or default_threads(), compiled, seconds
        )
        rows += found
        refused += failures
    return ModelReport(rows=rows, absent=absent, refused=refused)


def _measure(
    name: str,
    chosen: Iterable[Engine],
    found: Iterable[Scheme],
    threads: Sequence[int],
    compiled: bool,
    seconds: float,
) -> tuple[list[ModelRow], list[Failure]]:
    subject = subjects[name]
    with quiet():
        model, inputs = subject.make()
    model.eval().requires_grad_(False)
    truth = _truth(model, inputs, subject.kind)
    contenders: list[_Contender] = []
    refused: list[Failure] = []
    pairs = [(e, s) for e in chosen for s in found if e.offers(s, subject.kind)]
    for engine, scheme in track(pairs, f"building {name}"):
        try:
            with quiet():
                contenders += _contenders(engine, scheme, model, inputs, subject.kind, compiled)
        except Exception as error:
            if engine.ours:
                raise
            refused.append(Failure.of(engine.name, scheme.op, error))
    if not contenders:
        return [], refused
    time_one = _time_encoder if subject.kind == "encoder" else _time_decoder
    tokens = inputs["input_ids"].shape[1]
    rows = []
    for count in threads:
        with torch_threads(count), torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS):
            rows += time_one(name, contenders, truth, tokens, count, seconds)
    return rows, refused


def _contenders(
    engine: Engine,
    scheme: Scheme,
    model: nn.Module,
    inputs: dict[str, Tensor],
    kind: str,
    compiled: bool,
) -> list[_Contender]:
    eager: Bind[Any]
    again: Bind[Any] | None = None
    if kind == "decoder":
        ids = inputs["input_ids"]
        eager = engine.decoder(model, scheme, ids)
        again = _compiled_decoder(eager, ids) if engine.ours else None
    else:
        eager = engine.encoder(model, scheme, inputs)
        if isinstance(engine, ModuleEngine) and (compiled or engine.ours):
            again = _compiled_encoder(eager, inputs, engine.ours)
    made = [_Contender(engine, scheme, False, eager)]
    return made if again is None else [*made, _Contender(engine, scheme, True, again)]


def _compiled_encoder(eager: Bind[Run], inputs: dict[str, Tensor], ours: bool) -> Bind[Run]:
    """The same by `workbench.compile`, or torch.compile: anew for each number of threads, which
    its kernels know."""

    from workbench.graph.fuse.repeat import OFTEN

    def bind(threads: int) -> Run:
        run = eager(threads)
        call: Callable[[], Any]
        if ours:
            assert run.model is not None
            model = share(run.model)
            compile(model, inputs)
            call = partial(model, **inputs)
            for _ in range(OFTEN):  # as in a process that has been at it for a second
                call()
        else:
            call = torch.compile(run.call, dynamic=False)
        return Run(call, run.output, run.bytes)

    return bind


def _compiled_decoder(eager: Bind[Decoder], ids: Tensor) -> Bind[Decoder]:
    def bind(threads: int) -> Decoder:
        module = eager(threads).module
        assert module is not None
        return compiled_decoder(module, ids)

    return bind


def _truth(model: nn.Module, inputs: dict[str, Tensor], kind: str) -> Tensor:
    found = model(**inputs)
    return found.last_hidden_state[0] if kind == "encoder" else found.logits[0]


def _time_encoder(
    name: str,
    contenders: list[_Contender],
    truth: Tensor,
    tokens: int,
    threads: int,
    seconds: float,
) -> list[ModelRow]:
    runs: dict[str, Run] = {one.name: one.bind(threads) for one in contenders}
    quality = {
        key: metrics.cosine(truth, run.output(run.call())[0].float()).mean().item()
        for key, run in runs.items()
    }
    timings = race(
        {key: [run.call] for key, run in runs.items()},
        seconds,
        f"{name}, {threads} thread{'s' if threads > 1 else ''}",
        LEAST_ROUNDS,
    )
    return [
        _row(
            one,
            runs[one.name].bytes,
            name,
            "forward",
            tokens,
            threads,
            cosine=quality[one.name],
            **_told(timings, one),
        )
        for one in contenders
    ]


def _time_decoder(
    name: str,
    contenders: list[_Contender],
    truth: Tensor,
    tokens: int,
    threads: int,
    seconds: float,
) -> list[ModelRow]:
    runs: dict[str, Decoder] = {one.name: one.bind(threads) for one in contenders}
    quality = {
        key: metrics.kl_divergence(truth, run.logits().float()).mean().item()
        for key, run in runs.items()
    }
    phases: dict[Phase, dict[str, list[Callable[[], Any]]]] = {
        "prefill": {key: [run.prefill] for key, run in runs.items()},
        "decode": {key: [run.decode] for key, run in runs.items()},
    }
    rows = []
    for phase, calls in phases.items():
        what = f"{name} {phase}, {threads} thread{'s' if threads > 1 else ''}"
        timings = race(calls, seconds, what, LEAST_ROUNDS)
        rows += [
            _row(
                one,
                runs[one.name].bytes,
                name,
                phase,
                tokens,
                threads,
                kl=quality[one.name],
                **_told(timings, one),
            )
            for one in contenders
        ]
    return rows


def _told(timings: dict[str, Any], one: _Contender) -> dict[str, Any]:
    found: dict[str, Any] = timings[one.name].model_dump()
    return found


def _row(
    one: _Contender,
    size: int | None,
    name: str,
    phase: Phase,
    tokens: int,
    threads: int,
    **rest: Any,
) -> ModelRow:
    return ModelRow(
        model=name,
        phase=phase,
        engine=one.engine.name,
        op=one.scheme.op,
        bits=one.scheme.bits,
        group_size=one.scheme.group_size,
        compiled=one.compiled,
        tokens=tokens,
        threads=threads,
        bytes=size,
        bytes_of=one.engine.bytes_of,
        **rest,
    )
