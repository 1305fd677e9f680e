"""What instances get through, as a table for the terminal."""

from rich.table import Table

from workbench.bench.throughput import ThroughputReport


def throughput_table(report: ThroughputReport) -> Table:
    """One row for each form, batch size and number of instances."""
    table = Table(
        title="Samples a second: median of the rounds (quartiles); what a batch takes an instance; "
        "memory of all instances",
        title_justify="left",
    )
    for title in ("model", "form"):
        table.add_column(title)
    for title in (
        "batch", "instances x threads", "samples/s", "p50, ms", "p99, ms", "MB", "J a sample",
    ):  # fmt: skip
        table.add_column(title, justify="right")
    for row in report.rows:
        table.add_row(
            row.model,
            row.form,
            str(row.batch_size),
            f"{row.instances} x {row.threads}",
            f"{row.samples_per_second:.1f} ({row.low:.1f} to {row.high:.1f})",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            "unknown here" if row.bytes is None else f"{row.bytes / 1e6:.0f}",
            "not exposed" if row.joules is None else f"{row.joules:.3f}",
        )
    return table
