"""A picture of a benchmark of whole models: size by time, the quality on each mark, as one SVG."""

import math
from collections.abc import Iterator
from html import escape
from pathlib import Path

from workbench.bench.chart import check, colour, decades, family, ticks, write
from workbench.bench.engines import engines
from workbench.bench.model_tables import UNITS, cases, megabytes, quality_told, row_told, title
from workbench.bench.models import ModelReport, ModelRow

WIDTH, PLOT = 1010, 420  # of the picture, and of the square that marks lie in
LEFT, TOP, BOTTOM, LINE = 56, 58, 42, 17
KEY = LEFT + PLOT + 30  # where the list of marks begins
LEAST, MOST = 7.0, 15.0  # radius in pixels of a mark without, and with 8, digits of quality


def save_chart(report: ModelReport, path: Path) -> None:
    """Write the picture to `path`, an SVG or an HTML page that holds it.

    Raises WorkbenchError for another ending, and where the file cannot be written.
    """
    check(path)
    write(svg(report), "Size by time of whole models in many engines", path)


def svg(report: ModelReport) -> str:
    """Draw one panel for each model, phase and number of threads, then name absent engines."""
    parts: list[str] = []
    height = 0
    for rows in cases(report):
        sized = [row for row in rows if row.bytes is not None]
        tall = max(TOP + PLOT + BOTTOM, TOP + LINE * (len(rows) + 2))
        parts += [f'<g transform="translate(0,{height})">', *_panel(rows, sized), "</g>"]
        height += tall
    for name in report.absent:
        height += LINE
        told = f"Absent: {name}. To add it: {engines[name].install}"
        parts.append(f'<text x="{LEFT}" y="{height}">{escape(told)}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + LINE}"',
            f'width="{WIDTH}" height="{height + LINE}" font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{height + LINE}" fill="white"/>',
            *parts,
            "</svg>",
        ]
    )


def _panel(rows: list[ModelRow], sized: list[ModelRow]) -> Iterator[str]:
    unit = UNITS[rows[0].phase]
    yield f'<text x="{LEFT}" y="20" font-size="15" font-weight="bold">'
    yield f"{escape(title(rows[0]))}</text>"
    yield f'<text x="{LEFT}" y="38" fill="#555">Nearer to the lower left is better; a larger mark '
    yield "is closer to float32. What was counted as its size stands at the right.</text>"
    if sized:
        yield from _plot(rows, sized, unit)
    yield f'<text x="{KEY}" y="{TOP + 4}" font-weight="bold">size, {unit}, quality</text>'
    for number, row in enumerate(rows, 1):
        y = TOP + 4 + LINE * number
        told = (
            f"{number}  {row_told(row)}: {megabytes(row)}, {row.ms_median:.3g}, {quality_told(row)}"
        )
        yield f'<rect x="{KEY}" y="{y - 9}" width="10" height="10" fill="{_ink(row)}"/>'
        yield f'<text x="{KEY + 16}" y="{y}">{escape(told)}</text>'


def _plot(rows: list[ModelRow], sized: list[ModelRow], unit: str) -> Iterator[str]:
    across = _axis([(row.bytes or 0) / 1e6 for row in sized], LEFT, LEFT + PLOT)
    up = _axis([row.ms_median for row in sized], TOP + PLOT, TOP)
    for mark, at in across[1].items():
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{TOP + PLOT}" stroke="#ddd"/>'
        yield f'<text x="{at:.1f}" y="{TOP + PLOT + 15}" text-anchor="middle">{mark:g}</text>'
    for mark, at in up[1].items():
        yield f'<line x1="{LEFT}" x2="{LEFT + PLOT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{mark:g}</text>'
    yield f'<text x="4" y="{TOP - 6}" fill="#555">{unit}</text>'
    yield f'<text x="{LEFT + PLOT}" y="{TOP + PLOT + 32}" text-anchor="end" fill="#555">MB</text>'
    for number, row in enumerate(rows, 1):
        if row.bytes is None:
            continue
        x, y = across[0](row.bytes / 1e6), up[0](row.ms_median)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_radius(row):.1f}" fill="white" '
        yield f'fill-opacity="0.7" stroke="{_ink(row)}" stroke-width="2">'
        yield f"<title>{escape(row_told(row))}: {megabytes(row)}, {row.ms_median:.3g} {unit}, "
        yield f"{quality_told(row)}</title></circle>"
        yield f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{number}</text>'


def _axis(values: list[float], start: float, end: float) -> tuple["_Place", dict[float, float]]:
    low, high = decades(values)
    place = _Place(low, high, start, end)
    return place, {tick: place(tick) for tick in ticks(low, high)}


class _Place:
    """Where a value lies on a logarithmic axis, in pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * share


def _radius(row: ModelRow) -> float:
    lost = 1 - row.cosine if row.cosine is not None else row.kl or 0.0
    digits = min(max(-math.log10(max(lost, 1e-8)), 0.0), 8.0)
    return LEAST + (MOST - LEAST) * digits / 8


def _ink(row: ModelRow) -> str:
    return colour(family(row.engine))
