"""A comparison of trainers as one HTML fragment: picture, table, and what they do not say."""

from collections.abc import Collection
from html import escape

from workbench.bench.training_chart import PAGE, SMOOTHED, svg
from workbench.bench.training_report import PLAIN, TrainReport
from workbench.bench.training_tables import LEGEND, cells, training_sentences

STYLE = """<style>
:has(> .qw-runs) { min-width: 0; max-width: 100%; }
.qw-runs { overflow-x: auto; line-height: 1.5; }
.qw-runs table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.qw-runs :is(th, td) { padding: 2px 10px; text-align: right; white-space: nowrap; }
.qw-runs :is(th, td):is(:first-child, :last-child) { text-align: left; }
.qw-runs tr { border-bottom: 1px solid var(--jp-border-color2, #dddddd); }
.qw-runs [scope=row] { font-weight: normal; }
</style>"""


def html(
    report: TrainReport, names: Collection[str] | None = None, smoothed: int = SMOOTHED
) -> str:
    """Of transformers' runs and those called `names` (None: all)."""
    rows = [row for row in report.rows if names is None or row.name in {PLAIN, *names}]
    chosen = report.model_copy(update={"rows": tuple(rows)})
    titles, body = cells(chosen)
    notes = "".join(f"<li>{escape(one)}</li>" for one in (LEGEND, *training_sentences(chosen)))
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    return (
        f"{STYLE}{svg(report, names, smoothed, PAGE)}"
        f'<div class="qw-runs" tabindex="0"><table><tr>{head}</tr>'
        f"{''.join(map(_row, body))}</table><ul>{notes}</ul></div>"
    )


def _row(texts: list[str]) -> str:
    name, *others = map(escape, texts)
    figures = "".join(f"<td>{text}</td>" for text in others)
    return f'<tr><th scope="row">{name}</th>{figures}</tr>'
