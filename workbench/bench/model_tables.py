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
    for rows in cases(report):
        first = rows[0]
        table = Table(
            title=f"{title(first)}: {subjects[first.model].what}",
            title_justify="left",
            caption=noise(rows),
            caption_justify="left",
        )
        table.add_column("engine")
        table.add_column("op")
        quality = "cosine" if first.cosine is not None else "KL, nats"
        for heading in (UNITS[first.phase], "least", "x fp32", "x bf16", quality, "size"):
            table.add_column(heading, justify="right")
        fp32, bf16 = (named(rows, name) for name in ("torch fp32", "torch bf16"))
        for row in rows:
            lost = f"{row.cosine:.5f}" if row.cosine is not None else f"{row.kl:.2e}"
            cells = [spread(row), f"{row.ms_min:.3g}", times(row, fp32), times(row, bf16), lost]
            cells.append(megabytes(row))
            table.add_row(row.engine, _op(row), *cells)
        yield table


def model_sentences(report: ModelReport) -> Iterator[str]:
    """What a table does not say: where ours was slower than float, who was absent."""
    for rows in cases(report):
        yield from slower(rows, title(rows[0]), _op)
    yield from missing(report)


def cases(report: ModelReport) -> list[list[ModelRow]]:
    """The rows that were timed together."""
    found: dict[tuple[object, ...], list[ModelRow]] = {}
    for row in report.rows:
        found.setdefault((row.model, row.phase, row.threads), []).append(row)
    return list(found.values())


def title(row: ModelRow) -> str:
    """What the rows of a case share."""
    return f"{row.model}, {row.phase}, {threads_told(row.threads)}"


def row_told(row: ModelRow) -> str:
    """Who ran what, in words."""
    return f"{row.engine} {_op(row)}"


def megabytes(row: ModelRow) -> str:
    """The size of a row, and what was counted."""
    return "-" if row.bytes is None else f"{row.bytes / 1e6:.1f} MB {row.bytes_of}"


def quality_told(row: ModelRow) -> str:
    """How close a row is to float32."""
    return f"cosine {row.cosine:.5f}" if row.cosine is not None else f"KL {row.kl:.1e}"


def _op(row: ModelRow) -> str:
    return op_told(row) + (", compiled" if row.compiled else "")
