"""A layer benchmark as tables and sentences for a terminal."""

import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.table import Table

from workbench.bench.ceilings import Ceiling
from workbench.bench.engines import engines
from workbench.bench.layers import COLD_ROWS, LayerReport, LayerRow, told
from workbench.bench.race import Timing
from workbench.bench.report import Report, Row

SUSPECT_DB = 3.0  # a peer that falls so far behind its own arithmetic computes something else
R = TypeVar("R", bound=Row)


def layer_tables(report: LayerReport) -> Iterator[Table]:
    """One table for each shape, number of threads and state of the caches."""
    for rows in cases(report.rows):
        reading = rows[0].m <= COLD_ROWS
        table = Table(
            title=f"{case_title(rows[0])}: ms, median ± half the distance of the quartiles",
            title_justify="left",
            caption=noise(rows),
            caption_justify="left",
        )
        table.add_column("engine")
        table.add_column("op")
        unit = "GB/s" if reading else "Gop/s"
        for title in ("ms", "least", "x fp32", "x bf16", unit, "of ceiling", "SQNR, dB"):
            table.add_column(title, justify="right")
        table.add_column("what ran", overflow="fold")
        fp32, bf16 = (named(rows, name) for name in ("torch fp32", "torch bf16"))
        for row in rows:
            speed = row.packed_gb_s if reading else row.gops
            share = ceiling_share(row, report.ceilings)
            table.add_row(
                row.engine,
                op_told(row),
                spread(row),
                f"{row.ms_min:.3g}",
                times(row, fp32),
                times(row, bf16),
                f"{speed:.3g}",
                "-" if share is None else f"{share:.0%}",
                f"{row.sqnr_db:.1f}",
                row.detail,
            )
        yield table


def ceiling_table(report: Report[R]) -> Table:
    """What the machine reached at most."""
    table = Table(title="Ceilings of this machine, measured in this run", title_justify="left")
    table.add_column("what")
    table.add_column("threads", justify="right")
    table.add_column("at most", justify="right")
    for one in report.ceilings:
        table.add_row(one.name, str(one.threads), f"{one.value:.4g} {one.unit}")
    return table


def layer_sentences(report: LayerReport) -> Iterator[str]:
    """What a table does not say: who was slower than float, who was wrong, who was absent."""
    for rows in cases(report.rows):
        yield from slower(rows, case_title(rows[0]), op_told)
    for row in report.rows:
        if row.expected_sqnr_db is None or engines[row.engine].ours:
            continue
        if not row.sqnr_db > row.expected_sqnr_db.least - SUSPECT_DB:
            yield (
                f"Wrong: {row.engine} {op_told(row)}, {case_title(row)}, has {row.sqnr_db:.1f} dB "
                f"where its arithmetic gives {told(row.expected_sqnr_db)}; its time means nothing."
            )
    yield from missing(report)


def missing(report: Report[R]) -> Iterator[str]:
    """Which engines are absent or refused, and why."""
    for name, reason in report.absent.items():
        yield f"Absent: {name}. {reason}"
    for one in dict.fromkeys(report.refused):
        yield f"Refused: {one.engine} {one.op}. {one.reason}"


def slower(rows: list[R], what: str, name: Callable[[R], str]) -> Iterator[str]:
    """Say of every row of ours where it takes longer than torch in float."""
    floats = [row for row in rows if row.engine in ("torch fp32", "torch bf16")]
    for row in (row for row in rows if engines[row.engine].ours):
        for other in floats:
            if row.ms_median > other.ms_median:
                yield (
                    f"Slower than {other.engine}: {row.engine} {name(row)}, {what}, "
                    f"{row.ms_median:.3g} ms against {other.ms_median:.3g}."
                )


def noise(rows: Iterable[Timing]) -> str:
    """The noise floor of rows that were timed in turns."""
    drifts = [row.drift for row in rows]
    tenth = statistics.quantiles(drifts, n=10, method="inclusive")[-1] if drifts[1:] else drifts[0]
    return (
        f"noise: between odd and even rounds 9 of 10 medians move less than {tenth:.1%}; "
        "smaller differences mean nothing"
    )


def cases(rows: Iterable[LayerRow]) -> list[list[LayerRow]]:
    """The rows that were timed together."""
    found: dict[tuple[object, ...], list[LayerRow]] = {}
    for row in rows:
        found.setdefault((row.m, row.k, row.n, row.threads, row.cold), []).append(row)
    return list(found.values())


def case_title(row: LayerRow) -> str:
    """What the rows of a case share."""
    state = "cold weights" if row.cold else "warm weights"
    return f"{row.m} x {row.k} x {row.n}, {threads_told(row.threads)}, {state}"


def threads_told(count: int) -> str:
    """A number of threads in words."""
    return "1 thread" if count == 1 else f"{count} threads"


def ceiling_share(row: LayerRow, ceilings: Iterable[Ceiling]) -> float | None:
    """Which part of what limits it a row reaches: of products, or of reads where they decide."""
    if row.m <= COLD_ROWS:
        prefix = "read_memory" if row.cold else "read_last_level"
        speed = row.packed_gb_s
    else:
        prefix = "int8" if "a8" in row.op else "fp32" if row.bits == 32 else "bf16"
        speed = row.gops
    known = [c.value for c in ceilings if c.threads == row.threads and c.name.startswith(prefix)]
    return speed / max(known) if known else None


def spread(timing: Timing) -> str:
    """A median with the half of the distance between its quartiles."""
    half = (timing.ms_high - timing.ms_low) / 2 / timing.ms_median
    return f"{timing.ms_median:.3g} ±{half:.0%}"


def times(row: Row, reference: Row | None) -> str:
    """How many times faster than `reference`."""
    return "-" if reference is None else f"{reference.ms_median / row.ms_median:.2f}"


def named(rows: Iterable[R], engine: str) -> R | None:
    """The first row of an engine."""
    return next((row for row in rows if row.engine == engine), None)


def op_told(row: Row) -> str:
    """The op of a row, with its group size."""
    if row.op == "float":
        return {32: "fp32", 16: "bf16"}[row.bits]
    return row.op if row.group_size is None else f"{row.op} g{row.group_size}"
