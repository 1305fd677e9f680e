"""A comparison of trainers as one HTML fragment: picture, table, and what they do not say."""

from collections.abc import Collection
from html import escape

from workbench.bench.training_chart import PAGE, SMOOTHED, svg
from workbench.bench.training_report import PLAIN, TrainReport
from workbench.bench.training_tables import LEGEND, cells, training_sentences


def html(
    report: TrainReport, names: Collection[str] | None = None, smoothed: int = SMOOTHED
) -> str:
    """Of transformers' runs and those called `names` (None: all)."""
    rows = [row for row in report.rows if names is None or row.name in {PLAIN, *names}]
    chosen = report.model_copy(update={"rows": tuple(rows)})
    titles, body = cells(chosen)
    notes = "".join(f"<li>{escape(one)}</li>" for one in (LEGEND, *training_sentences(chosen)))
    table = _row("th", titles) + "".join(_row("td", row) for row in body)
    return (
        f'{svg(report, names, smoothed, PAGE)}<div style="overflow-x:auto"><table cellpadding="4">'
        f"{table}</table></div><ul>{notes}</ul>"
    )


def _row(tag: str, texts: list[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts) + "</tr>"
