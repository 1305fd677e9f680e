"""A comparison of trainers as a table and sentences for a terminal."""

from collections.abc import Iterator

from rich.table import Table

from workbench.bench.training_chart import fastest_first
from workbench.bench.training_report import PLAIN, TrainReport, TrainRow
from workbench.train.accelerators import accelerators
from workbench.train.choices import told

SHOWN_S = 0.1  # a shorter start was no compiler's
LEGEND = (
    "x: times as fast as transformers' Trainer in the same turns, ± two standard errors; cpu: the "
    "same in time on the processor, which other processes disturb less. Peak: of the whole process."
)


def training_table(report: TrainReport) -> Table:
    """One row for each run, fastest first below transformers' trainer."""
    table = Table(
        title=f"{report.what}: {report.steps} steps of {report.batch} rows, "
        f"{report.threads} thread{'' if report.threads == 1 else 's'}",
        title_justify="left",
        caption=LEGEND,
        caption_justify="left",
    )
    titles, rows = cells(report)
    table.add_column(titles[0], no_wrap=True)
    for title in titles[1:-1]:
        table.add_column(title, justify="right")
    table.add_column(titles[-1])
    for row in rows:
        table.add_row(*row)
    return table


def cells(report: TrainReport) -> tuple[list[str], list[list[str]]]:
    """The titles and the rows of the table, without columns of which no row has anything."""
    compiled = any(row.compile_s >= SHOWN_S for row in report.rows)
    titles = ["run", "samples/s", "tokens/s", "x", "x cpu", "peak MB", "held-out loss"]
    titles += [*(["compile s", "x with it"] if compiled else []), "against its seeds"]
    rows = [*report.plain, *fastest_first(report)]
    return titles, [_cells(row, compiled) for row in rows]


def _cells(row: TrainRow, compiled: bool) -> list[str]:
    name = f"{row.name}, seed {row.seed}" if row.name == PLAIN else row.name
    took = row.compile_s >= SHOWN_S
    compiling = [f"{row.compile_s:.0f}", f"{row.with_compile:.2f}"] if took else ["", ""]
    return [
        name,
        f"{row.samples_s:.2f}",
        f"{row.tokens_s:.0f}",
        "1" if row.name == PLAIN else told(row.ratio, row.error),
        "1" if row.name == PLAIN else f"{row.processor_ratio:.2f}",
        "-" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}",
        f"{row.held_out:.4f}",
        *(compiling if compiled else []),
        "" if row.name == PLAIN else row.parity,
    ]


def training_sentences(report: TrainReport) -> Iterator[str]:
    """What the table does not say: who lost, what may change, what did not run and why."""
    for row in report.rows:
        if row.name in accelerators:
            if row.ratio + 2 * row.error < 1:
                yield f"Slower: {row.name}, x {told(row.ratio, row.error)}."
            yield f"{row.name}: {accelerators[row.name].brings}. May change {_changes(row.name)}."
    for name, reason in report.failed.items():
        yield f"Did not run: {name}. {reason[:1].upper()}{reason[1:]}."


def _changes(name: str) -> str:
    return accelerators[name].changes
