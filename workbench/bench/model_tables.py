"""A benchmark of whole models as tables and sentences for a terminal."""

from collections.abc import Iterator

from rich.table import Table

from workbench.bench.models import ModelReport, ModelRow
from workbench.bench.subjects import subjects
from workbench.bench.tables import (
    missing,
    named,
    noise,
    op_told,
    slower,
    spread,
    threads_told,
    times,
)

UNITS = {"forward": "ms", "prefill": "ms", "decode": "ms a token"}


def model_tables(report: ModelReport) -> Iterator[Table]:
    """One table for each model, phase and number of threads."""
    for rows in _cases(report):
        first = rows[0]
        table = Table(
            title=f"{_title(first)}: {subjects[first.model].what}",
            title_justify="left",
            caption=noise(rows),
            caption_justify="left",
        )
        table.add_column("engine")
        table.add_column("op")
        quality = "cosine" if first.cosine is not None else "KL, nats"
        for title in (UNITS[first.phase], "least", "x fp32", "x bf16", quality):
            table.add_column(title, justify="right")
        fp32, bf16 = (named(rows, name) for name in ("torch fp32", "torch bf16"))
        for row in rows:
            lost = f"{row.cosine:.5f}" if row.cosine is not None else f"{row.kl:.2e}"
            cells = [spread(row), f"{row.ms_min:.3g}", times(row, fp32), times(row, bf16), lost]
            table.add_row(row.engine, _op(row), *cells)
        yield table


def model_sentences(report: ModelReport) -> Iterator[str]:
    """What a table does not say: where ours was slower than float, who was absent."""
    for rows in _cases(report):
        yield from slower(rows, _title(rows[0]), _op)
    yield from missing(report)


def _cases(report: ModelReport) -> list[list[ModelRow]]:
    found: dict[tuple[object, ...], list[ModelRow]] = {}
    for row in report.rows:
        found.setdefault((row.model, row.phase, row.threads), []).append(row)
    return list(found.values())


def _title(row: ModelRow) -> str:
    return f"{row.model}, {row.phase}, {threads_told(row.threads)}"


def _op(row: ModelRow) -> str:
    return op_told(row) + (", compiled" if row.compiled else "")
