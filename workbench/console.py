"""What the command line prints: progress bars, the tables of a study, the doctor's report."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from torch import nn

from workbench import ops
from workbench.bench import (
    LayerReport,
    MemoryRow,
    ModelReport,
    QualityReport,
    ThroughputReport,
    model_tables,
    quality_tables,
    tables,
)
from workbench.bench.throughput_table import throughput_table
from workbench.compare import Timing, machine, versions
from workbench.errors import WorkbenchError
from workbench.models import Bundled, bundled
from workbench.ops import fused, native
from workbench.progress import reporting
from workbench.quant import QLinear, QuantArgs, against_float, freeze, quantize
from workbench.study import Study, Variant
from workbench.waterfall import Waterfall
from workbench.waterfall import page as waterfall_page

if TYPE_CHECKING:
    from workbench.bench.training_report import TrainReport

WIDE = 120  # columns where the output is no terminal, so that a log keeps its tables whole

LEGEND = (
    "O3, O1: int8 weights per output channel and int8 activations, O3 per tensor with a calibrated "
    "scale, O1 per token as they come (SmoothQuant's names). W and bits: weights only."
)


def console() -> Console:
    """A console on stdout."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(width=WIDE, highlight=False)


class Bars:
    """Shows each loop as a progress bar on stderr; shows nothing where that is a file."""

    def __init__(self) -> None:
        screen = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=screen,
            transient=True,
            disable=not screen.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def update(self, what: str, done: int, total: int | None) -> None:
        """Show a loop's progress; a finished loop leaves the screen."""
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what, total=total)
        self.progress.update(self.tasks[what], completed=done, total=total)
        if done == total:
            self.progress.remove_task(self.tasks.pop(what))

    def check(self) -> None:
        """Nobody cancels here: Ctrl-C interrupts."""


@contextmanager
def at_work() -> Iterator[None]:
    """Show our progress inside the block, and none of transformers' bars and warnings."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with Bars() as bars, reporting(bars):
        yield


def show_study(study: Study) -> None:
    """Print a study as tables: accuracy and size, latency for each number of threads, ops."""
    screen = console()
    screen.print(f"\n[bold]{study.model}[/bold]  {study.note}")
    screen.print(LEGEND)
    screen.print(_quality(study))
    for index, speed in enumerate(study.variants[0].speed):
        screen.print(_latency(study, index, speed.threads, speed.prompt_tokens))
    screen.print(_ops(study))
    for variant in study.variants:
        if variant.numbers:
            screen.print(_numbers(variant))
    for sentence in (*trained(study), *slower(study)):
        screen.print(sentence)
    folders = {str(Path(variant.checkpoint).parent) for variant in study.variants}
    names = ", ".join(Path(variant.checkpoint).name for variant in study.variants)
    screen.print(f"Checkpoints in {', '.join(folders)}: {names}. Took {study.seconds:.0f} s.")


def _quality(study: Study) -> Table:
    table = Table(title="Accuracy and size", title_justify="left")
    table.add_column("variant")
    columns: dict[str, list[str]]
    variants = study.variants
    if study.kind == "encoder":
        columns = {
            "cosine, mean": [_number(v.cosine, ".4f") for v in variants],
            "cosine, least": [_number(v.cosine_min, ".4f") for v in variants],
            "same nearest sentence": [_number(v.neighbour_agreement, ".1%") for v in variants],
        }
    else:
        columns = {
            "perplexity": [_number(v.perplexity, ".3f") for v in variants],
            "completions that parse": [_number(v.parse_rate, ".1%") for v in variants],
            "same next token as fp32": [_number(v.agreement, ".1%") for v in variants],
        }
    columns["MB on disk"] = [f"{v.bytes / 1e6:.1f}" for v in variants]
    for title in columns:
        table.add_column(title, justify="right")
    for variant, *cells in zip(variants, *columns.values(), strict=True):
        table.add_row(variant.name, *cells)
    return table


def _latency(study: Study, index: int, threads: int, tokens: int) -> Table:
    table = Table(
        title=f"Latency in ms, {_threads(threads)}: median (quartiles); x: times faster",
        title_justify="left",
        caption="* all but the one that makes the logits, which stays in float",
        caption_justify="left",
    )
    fp32, bf16, *_ = (variant.speed[index] for variant in study.variants)
    titles = [f"prefill of {tokens}", "x fp32", "x bf16", "its linears*", "x fp32"]
    if fp32.decode_ms:
        titles += ["decode, per token", "x fp32"]
    table.add_column("variant")
    for title in titles:
        table.add_column(title, justify="right")
    for variant in study.variants:
        ours = variant.speed[index]
        cells = [
            _timing(ours.prefill_ms),
            _times(ours.prefill_ms, fp32.prefill_ms),
            _times(ours.prefill_ms, bf16.prefill_ms),
            _timing(ours.linear_ms),
            _times(ours.linear_ms, fp32.linear_ms),
        ]
        if ours.decode_ms and fp32.decode_ms:
            cells += [_timing(ours.decode_ms), _times(ours.decode_ms, fp32.decode_ms)]
        table.add_row(variant.name, *cells)
    return table


def _ops(study: Study) -> Table:
    table = Table(title="What ran in the linears", title_justify="left")
    for title in ("variant", "op", "because"):
        table.add_column(title)
    for variant in study.variants:
        table.add_row(variant.name, variant.op, variant.op_reason)
    return table


def _numbers(variant: Variant) -> Table:
    table = Table(title=f"How integers were chosen, {variant.name}", title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("by", overflow="fold")
    for name, numbers in variant.numbers.items():
        table.add_row(name, str(numbers))
    return table


def trained(study: Study) -> list[str]:
    """Say of every variant that was trained how its loss went, over the first and last tenth."""
    sentences = []
    for variant in study.variants:
        if variant.training is not None:
            losses = variant.training.losses
            tenth = max(1, len(losses) // 10)
            first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
            sentences.append(
                f"Trained: {variant.name}, {len(losses)} steps, {variant.training.quantity} "
                f"{first:.4f} to {last:.4f} on the calibration text."
            )
    return sentences


def slower(study: Study) -> list[str]:
    """Say of every quantized variant where it is slower than fp32 or bf16 as a whole."""
    floats = [variant for variant in study.variants if variant.scheme in {"fp32", "bf16"}]
    quantized = [variant for variant in study.variants if variant not in floats]
    sentences = []
    for variant, reference in itertools.product(quantized, floats):
        for ours, other in zip(variant.speed, reference.speed, strict=True):
            pairs = {
                "prefill": (ours.prefill_ms, other.prefill_ms),
                "decoding": (ours.decode_ms, other.decode_ms),
            }
            sentences += [
                f"Slower than {reference.name}: {variant.name}, {what} with "
                f"{_threads(ours.threads)}, {mine.median:.2f} ms against {theirs.median:.2f}."
                for what, (mine, theirs) in pairs.items()
                if mine and theirs and mine.median > theirs.median
            ]
    return sentences


def show_memory(rows: list[MemoryRow]) -> None:
    """Print the memory of models by number type."""
    table = Table(
        title="Memory in MB, weights only quantized; peak: the most while freezing, less the float "
        "model, in its largest layers",
        title_justify="left",
    )
    table.add_column("model")
    table.add_column("type")
    for title in ("float", "frozen", "its layers", "bits a weight", "peak"):
        table.add_column(title, justify="right")
    for row in rows:
        peak = "unknown here"
        if row.peak is not None:
            more = row.peak - row.before
            peak = f"{row.peak / 1e6:.1f} ({more / row.largest:+.2f})"
        bits = 32 * row.layers_after / row.layers_before
        sizes = (row.before, row.after, row.layers_after)
        cells = [f"{size / 1e6:.1f}" for size in sizes]
        table.add_row(row.model, row.dtype, *cells, f"{bits:.2f}", peak)
    console().print(table)


def show_throughput(report: ThroughputReport) -> None:
    """Print what instances of models get through."""
    console().print(throughput_table(report))


def show_layers(report: LayerReport) -> None:
    """Print a benchmark of layers: a table for each case, the ceilings, what to know of them."""
    screen = console()
    for table in tables.layer_tables(report):
        screen.print(table)
    screen.print(tables.ceiling_table(report))
    for sentence in tables.layer_sentences(report):
        screen.print(sentence)


def show_quality(report: QualityReport) -> None:
    """Print the quality of many variants, one table for each family."""
    screen = console()
    screen.print(quality_tables.quality_caption(report))
    for table in quality_tables.quality_tables(report):
        screen.print(table)
    for refused in quality_tables.quality_refused(report):
        screen.print(f"Refused: {refused}")


def show_models(report: ModelReport) -> None:
    """Print a benchmark of whole models: a table for each model, phase and number of threads."""
    screen = console()
    for table in model_tables.model_tables(report):
        screen.print(table)
    for sentence in model_tables.model_sentences(report):
        screen.print(sentence)


def show_waterfall(found: Waterfall) -> None:
    """Print what each step of making a model smaller brought."""
    screen = console()
    for what, rows in waterfall_page.tables(found).items():
        table = Table(*rows[0], title=f"{found.title}: {what}", title_justify="left")
        for row in rows:
            table.add_row(*row.values())
        screen.print(table)
    for sentence in found.notes:
        screen.print(sentence)


def show_training(report: "TrainReport") -> None:
    """Print a comparison of trainers: the table, who lost, what did not run."""
    from workbench.bench import training_tables  # imports a trainer, which takes long

    screen = console()
    screen.print(training_tables.training_table(report))
    for sentence in training_tables.training_sentences(report):
        screen.print(sentence)


def show_machine() -> None:
    """Print what this machine can do: processor, versions, kernels, ops, models."""
    screen = console()
    for title, facts in (
        ("Machine", machine()),
        ("Versions", versions()),
        ("Native kernels", _native_kernels()),
        ("What computes a layer of 3072 x 768", _choices()),
    ):
        table = Table("what", "found", title=title, title_justify="left", show_header=False)
        for name, value in facts.items():
            shown = ", ".join(value) if isinstance(value, list) else str(value)
            table.add_row(name.replace("_", " "), shown or "none that matter here")
        screen.print(table)
    for title, listed in (
        ("Ops, fastest first", ops.report()),
        ("Ops of compiled models (wb.compile)", fused.report()),
    ):
        table = Table("op", "runs here", "because", title=title, title_justify="left")
        for name, available, reason in listed:
            table.add_row(name, "yes" if available else "no", reason)
        screen.print(table)
    table = Table("model", "here", "what it is", title="Bundled models", title_justify="left")
    for entry in bundled.values():
        table.add_row(entry.name, *_presence(entry))
    screen.print(table)


def _native_kernels() -> dict[str, str]:
    found = native.status()
    if found.problem is not None:
        return {"library": found.problem}
    asked = os.environ.get("WORKBENCH_KERNELS")
    why = f"asked for by WORKBENCH_KERNELS={asked}" if asked else "the fastest that runs here"
    obstacles = {f"level {name}": obstacle or "runs" for name, obstacle in found.levels}
    return {"library": str(found.path), "level in use": f"{found.level}, {why}", **obstacles}


def _choices() -> dict[str, str]:
    int4 = QuantArgs(dtype="int4", granularity="group", group_size=128)
    by_token = QuantArgs(granularity="token", dynamic=True)
    schemes = {
        "W8A8": (QuantArgs(), by_token),
        "W8": (QuantArgs(), None),
        "W4 in groups of 128": (int4, None),
        "W4A8 in groups of 128": (int4, by_token),
        "W float8": (QuantArgs(dtype="float8_e4m3fn"), None),
    }
    chosen = {}
    for scheme, (weights, activations) in schemes.items():
        model = nn.Sequential(nn.Linear(768, 3072))
        quantize(model, weights=weights, activations=activations)
        layer = model[0]
        assert isinstance(layer, QLinear)
        slower, told = against_float(layer)
        freeze(model)
        verdict = "left in float" if slower else "kept"
        chosen[scheme] = f"{layer.op}: {layer.op_reason}"
        chosen[f"{scheme}, freeze(slower='float')"] = f"{verdict}; {told}"
    return chosen


def _presence(entry: Bundled) -> tuple[str, str]:
    try:
        present = (entry.folder() / "config.json").is_file()
    except WorkbenchError as error:
        return "no", str(error)
    return ("yes", entry.description) if present else ("no", f"{entry.folder()} is missing")


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _timing(timing: Timing) -> str:
    digits = 1 if timing.median >= 10 else 2
    return f"{timing.median:.{digits}f} ({timing.low:.{digits}f}-{timing.high:.{digits}f})"


def _times(timing: Timing, reference: Timing) -> str:
    return f"{reference.median / timing.median:.2f}"
