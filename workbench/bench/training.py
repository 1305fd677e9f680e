"""transformers' trainer and ours on one model and data, each accelerator alone and all together."""

import multiprocessing
import pickle
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import torch

from workbench.bench.training_report import PLAIN, TrainReport, TrainRow
from workbench.bench.training_run import Outcome, Turn, Variant, run
from workbench.bench.training_subjects import Material, Subject, given, subject
from workbench.errors import WorkbenchError
from workbench.progress import track
from workbench.train.accelerators import accelerators
from workbench.train.choices import ratio_of

TURN = 4  # optimizer steps: short beside what disturbs a machine, long beside the change of turns
TURNS_LEAST = 4


def train_bench(
    what: str | Material,
    *,
    accelerate: Sequence[str] = (),
    steps: int = 64,
    batch: int = 8,
    seeds: int = 3,
    threads: int | None = None,
    data: Path | None = None,
) -> TrainReport:
    """Compare trainers on "minilm", "pylm" or material of your own, in processes that take turns.

    Each of `accelerate` (default: all that apply) runs alone and all run together, for one pass
    over `steps` times `batch` rows; transformers' trainer, at its defaults, runs with as many
    `seeds`. A run that breaks is named in the report, with the reason. Raises WorkbenchError for
    names that are unknown, data that are missing, and material that no other process can read.
    """
    named = _named(accelerate)
    if steps < TURN * TURNS_LEAST:
        raise WorkbenchError(f"steps is {steps}; fewer than {TURN * TURNS_LEAST} tell nothing")
    if min(batch, seeds) < 1:
        raise WorkbenchError(f"batch is {batch} and seeds is {seeds}; each is at least 1")
    chosen = subject(what, data) if isinstance(what, str) else given(what)
    _readable(chosen)
    count = threads or torch.get_num_threads()
    how = {"steps": steps, "batch": batch, "turn": TURN, "threads": count}
    found, failed = _all_runs(chosen, _variants(named), seeds, how)
    return TrainReport(
        subject=chosen.name,
        what=chosen.what,
        steps=steps,
        batch=batch,
        threads=count,
        rows=tuple(_rows(found, steps * batch)),
        failed=failed,
    )


def _named(accelerate: Sequence[str]) -> tuple[str, ...]:
    unknown = next((name for name in accelerate if name not in accelerators), None)
    if unknown is not None:
        raise WorkbenchError(
            f"accelerator {unknown!r} is unknown; allowed: {', '.join(accelerators)}"
        )
    return tuple(name for name in accelerators if name in accelerate) or tuple(accelerators)


def _readable(chosen: Subject) -> None:
    try:
        pickle.dumps(chosen)
    except Exception as error:
        raise WorkbenchError(
            f"the material cannot be handed to another process: {error}. Define its classes and "
            "functions in a file that can be imported"
        ) from error


def _variants(named: Sequence[str]) -> list[Variant]:
    alone = [Variant(name=name, accelerate=(name,)) for name in named]
    together = [Variant(name="all", accelerate=tuple(named))] if len(named) > 1 else []
    slow = [name for name in named if accelerators[name].slow_start]
    if slow and len(named) > len(slow) + 1:
        rest = tuple(name for name in named if name not in slow)
        together.append(Variant(name=f"all but {', '.join(slow)}", accelerate=rest))
    return [*together, *alone]


Run = tuple[Variant, list[Turn], Outcome]


def _all_runs(
    chosen: Subject, variants: list[Variant], seeds: int, how: dict[str, int]
) -> tuple[list[tuple[Run, Run]], dict[str, str]]:
    """Runs with the run of transformers' trainer that took turns with them."""
    found: list[tuple[Run, Run]] = []
    failed: dict[str, str] = {}
    for seed in range(seeds):
        plain = Variant(name=PLAIN, accelerate=None, seed=seed)
        runs, broken = _group(chosen, [plain, *variants[seed::seeds]], how)
        failed |= broken
        if plain.name in broken:
            raise WorkbenchError(f"transformers' trainer fails here: {broken[plain.name]}")
        found += [(one, runs[0]) for one in runs]
    return found, failed


def _group(
    chosen: Subject, variants: list[Variant], how: dict[str, int]
) -> tuple[list[Run], dict[str, str]]:
    """Runs that take turns, and why others of the `variants` could not."""
    failed: dict[str, str] = {}
    with _Processes() as processes:
        waiting: dict[Variant, Connection] = {}
        for variant in track(variants, "starting runs"):  # one by one: each compiles alone
            pipe = processes.start(chosen, variant, how)
            said = _heard(pipe)
            if said == "ready":
                waiting[variant] = pipe
            else:
                failed[variant.name] = str(said)
        turns: dict[Variant, list[Turn]] = {variant: [] for variant in waiting}
        done: dict[Variant, Outcome] = {}
        rounds = -(-how["steps"] // how["turn"]) + 1  # and one to judge
        for number in track(range(rounds), f"training {', '.join(v.name for v in variants)}"):
            for variant in list(waiting)[:: 1 if number % 2 else -1]:
                said = _heard(waiting[variant], "go")
                if isinstance(said, Turn):
                    turns[variant].append(said)
                elif isinstance(said, Outcome):
                    done[variant] = said
                else:
                    failed[variant.name] = str(said)
                    del waiting[variant]
    return [(variant, turns[variant], done[variant]) for variant in waiting], failed


def _heard(pipe: Connection, word: str | None = None) -> Any:
    """What a process says next, after it was told a word."""
    try:
        if word is not None:
            pipe.send(word)
        return pipe.recv()
    except (EOFError, OSError):
        return "its process was killed"


class _Processes:
    """Processes that end with the block, whatever happens in it."""

    def __init__(self) -> None:
        # A server that has imported everything and computed nothing is quick and safe to fork.
        ways = multiprocessing.get_all_start_methods()
        self.context: Any = multiprocessing.get_context(
            "forkserver" if "forkserver" in ways else "spawn"
        )
        if "forkserver" in ways:
            multiprocessing.set_forkserver_preload([run.__module__])
        self.started: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            process.terminate()
            process.join()

    def start(self, chosen: Subject, variant: Variant, how: dict[str, int]) -> Connection:
        """Begin a run; returns the pipe to it."""
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=run, args=(theirs, chosen, variant, how), daemon=True)
        process.start()
        theirs.close()
        self.started.append(process)
        return ours


def _rows(found: list[tuple[Run, Run]], samples: int) -> Iterator[TrainRow]:
    plain = [outcome.held_out for (variant, _, outcome), _ in found if variant.name == PLAIN]
    for (variant, turns, outcome), (_, reference, _) in found:
        seconds = [turn.seconds for turn in turns]
        theirs = [turn.seconds for turn in reference]
        ratio, error = ratio_of(theirs, seconds)
        used, their_use = (sum(t.processor_s for t in some) for some in (turns, reference))
        whole = sum(seconds)
        yield TrainRow(
            name=variant.name,
            seed=variant.seed,
            kept=outcome.kept,
            refused=outcome.refused,
            samples_s=samples / whole,
            tokens_s=outcome.tokens / whole,
            ratio=ratio,
            error=error,
            processor_ratio=their_use / used,
            with_compile=sum(theirs) / (whole + outcome.compile_s),
            compile_s=outcome.compile_s,
            peak_bytes=outcome.peak_bytes,
            losses=outcome.losses,
            held_out=outcome.held_out,
            parity=_parity(outcome.held_out, plain),
        )


def _parity(loss: float, plain: Sequence[float]) -> str:
    low, high = min(plain), max(plain)
    if loss < low:
        return f"better by {low - loss:.4f}"
    if loss > high:
        return f"worse by {loss - high:.4f}"
    return "within the seeds"
