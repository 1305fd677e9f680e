"""The waterfall as a picture and a table: one SVG, one HTML fragment, no network."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.models.atomic import write_text
from workbench.waterfall.curve import COLOURS, curve_svg
from workbench.waterfall.document import Row, Waterfall

SUBTITLE = "requests in the time that the padded float model takes for one; longer is better"
LABEL, PLOT, SIDE, BAR, GAP, HEAD = 250, 420, 190, 20, 8, 56


def tables(found: Waterfall) -> dict[str, list[dict[str, str]]]:
    """Time and quality of each row as text by heading; a dash for what was not measured."""
    return {
        "time": [_time(found, row) for row in found.rows],
        "quality and cost": [_quality(found, row) for row in found.rows],
    }


def _time(found: Waterfall, row: Row) -> dict[str, str]:
    before, many = found.before(row), row.instances
    sampled = "" if len(row.milliseconds) == found.examples else f" of {len(row.milliseconds)}"
    p50, p99 = (many.p50_ms, many.p99_ms) if many else (row.percentile(0.5), row.percentile(0.99))
    factor = row.factor(found.padded)
    return {
        "step": row.name,
        "engine": row.engine,
        "s, batch 1": "-" if many else f"{row.seconds:.3g}{sampled}",
        "this step": f"{factor / before.factor(found.padded):.2f}" if before else "-",
        "of padded": f"{factor:.2f}",
        "of unpadded": f"{row.factor(found.unpadded):.2f}",
        "p50 ms": f"{p50:.2f}",
        "p99 ms": f"{p99:.2f}",
        "requests/s": f"{many.samples_per_second:,.0f}" if many else "-",
    }


def _quality(found: Waterfall, row: Row) -> dict[str, str]:
    interval, flips, many = row.interval, row.flips(found.unpadded), row.instances
    return {
        "step": row.name,
        "accuracy": "-" if row.accuracy is None else f"{row.accuracy:.2%}",
        "95 %": "-" if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}",
        "lost, won": "-" if flips is None else f"{flips.lost}, {flips.won}",
        "p": "-" if flips is None else f"{flips.p:.2g}",
        "parameters": f"{row.parameters:,}",
        "MB": f"{row.bytes / 1e6:.1f}",
        "J each": "-" if many is None or many.joules is None else f"{many.joules:.3g}",
        "per 100 M": f"{row.cost(found.price_per_hour):,.2f}",
    }


def svg(found: Waterfall) -> str:
    """Draw how many times each variant gets through the requests of the padded baseline."""
    factors = [row.factor(found.padded) for row in found.rows]
    height = HEAD + len(found.rows) * (BAR + GAP) + GAP
    width = LABEL + PLOT + SIDE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"',
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(found.title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="8" y="20" font-size="15" font-weight="bold">{escape(found.title)}</text>',
        f'<text x="8" y="40" fill="#555">{SUBTITLE}</text>',
    ]
    for index, (row, factor) in enumerate(zip(found.rows, factors, strict=True)):
        parts += _bar(row, factor, factor / max(factors), HEAD + index * (BAR + GAP))
    return "\n".join([*parts, "</svg>"])


def _bar(row: Row, factor: float, share: float, y: float) -> Iterator[str]:
    colour = COLOURS[row.engine]
    right = "" if row.accuracy is None else f", {row.accuracy:.1%} right"
    yield f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(row.name)}</text>'
    yield f'<rect x="{LABEL}" y="{y}" width="{max(1, share * PLOT):.1f}" height="{BAR}"'
    yield f'fill="{colour}"/>'
    yield f'<text x="{LABEL + share * PLOT + 6:.1f}" y="{y + 14}">{factor:.1f} times{right}</text>'


def html(found: Waterfall) -> str:
    """The pictures, the tables, and what a reader must know before any figure."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    pictures = [svg(found), *([curve_svg(found)] if found.judged else [])]
    grids = [_table(rows) for rows in tables(found).values()]
    return "".join([*pictures, *grids, f"<ul>{notes}</ul>"])


def _table(rows: list[dict[str, str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.values()) + "</tr>"
        for row in rows
    )
    return (
        '<div style="overflow-x:auto"><table cellpadding="4"><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def save_chart(found: Waterfall, path: Path) -> None:
    """Write the picture of factors to `path`, or all pictures and tables to a page, by its ending.

    Raises WorkbenchError for another ending than .svg and .html.
    """
    if path.suffix == ".svg":
        write_text(path, svg(found))
    elif path.suffix == ".html":
        title = escape(found.title)
        write_text(
            path,
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f'<body style="margin:16px;font-family:sans-serif">{html(found)}</body></html>\n',
        )
    else:
        raise WorkbenchError(f"a waterfall is drawn as .svg or .html, not as {path.name!r}")
