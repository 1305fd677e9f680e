"""A picture of a layer benchmark: time by bits, a line for each engine, as one SVG."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from workbench.bench.layers import LayerReport, LayerRow
from workbench.bench.tables import case_title, cases
from workbench.errors import WorkbenchError
from workbench.models.atomic import write_text

BITS = (32, 16, 8, 4, 2)
# Colours that those who see fewer of them tell apart (Okabe and Ito), ours the loudest.
COLOURS = {
    "torch": "#555555",
    "workbench": "#D55E00",
    "quanto": "#009E73",
    "torchao": "#CC79A7",
    "onnxruntime": "#0072B2",
    "openvino": "#56B4E9",
}
OTHER = "#999999"
WIDTH, HEIGHT, GAP = 380, 300, 16  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 30, 34  # its margins
COLUMNS, HEAD = 3, 64
LEAST_WIDTH = 900  # the legend's
Series = tuple[str, bool]  # engine, whether activations are int8
Points = dict[int, float]  # bits -> ms


def check(path: Path) -> None:
    """Raise WorkbenchError where a picture cannot be written under this name."""
    if path.suffix not in (".svg", ".html"):
        raise WorkbenchError(f"a chart is written as .svg or .html, not as {path.name!r}")


def save_chart(report: LayerReport, path: Path) -> None:
    """Write the picture to `path`, an SVG or an HTML page that holds it; both need no network.

    Raises WorkbenchError for another ending.
    """
    check(path)
    write(svg(report), "Time of a linear layer by bits of a weight", path)


def write(picture: str, title: str, path: Path) -> None:
    """Write an SVG as it is, or into a page with a title, by the ending of `path`."""
    if path.suffix == ".html":
        picture = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f'<body style="margin:16px">{picture}</body></html>\n'
        )
    write_text(path, picture)


def svg(report: LayerReport) -> str:
    """Draw one panel for each shape, number of threads and state of the caches."""
    found = cases(report.rows)
    columns = min(COLUMNS, len(found)) or 1
    lines = -(-len(found) // columns)
    width = max(columns * (WIDTH + GAP) + GAP, LEAST_WIDTH)
    height = HEAD + lines * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_legend(report.rows),
    ]
    for index, rows in enumerate(found):
        x = GAP + index % columns * (WIDTH + GAP)
        y = HEAD + index // columns * (HEIGHT + GAP)
        parts += [f'<g transform="translate({x},{y})">', *_panel(rows), "</g>"]
    return "\n".join([*parts, "</svg>"])


def _legend(rows: Iterable[LayerRow]) -> Iterator[str]:
    yield (
        f'<text x="{GAP}" y="22" font-size="15" font-weight="bold">'
        "Time of one linear layer by bits of a weight; lower is better</text>"
    )
    x = GAP
    for name in dict.fromkeys(family(row.engine) for row in rows):
        yield f'<rect x="{x}" y="38" width="12" height="12" fill="{colour(name)}"/>'
        yield f'<text x="{x + 17}" y="49">{escape(name)}</text>'
        x += 34 + 7 * len(name)
    yield f'<text x="{x + 8}" y="49" fill="#555">solid, disc: float activations;'
    yield " dashed, ring: int8 activations</text>"


def _panel(rows: list[LayerRow]) -> Iterator[str]:
    series = _series(rows)
    times = [ms for points in series.values() for ms in points.values()]
    low, high = decades(times)

    def across(bits: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (BITS.index(bits) + 0.5) / len(BITS)

    def up(ms: float) -> float:
        share = (math.log10(ms) - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    yield f'<text x="{LEFT}" y="18" font-weight="bold">{escape(case_title(rows[0]))}</text>'
    for tick in ticks(low, high):
        y = up(tick)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    yield f'<text x="4" y="{TOP - 12}" fill="#555">ms</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{HEIGHT}" text-anchor="end" fill="#555">'
    yield "bits of a weight</text>"
    for bits in BITS:
        x = across(bits)
        yield f'<text x="{x:.1f}" y="{HEIGHT - 14}" text-anchor="middle">{bits}</text>'
    for (name, integer), points in series.items():
        ink, ordered = colour(name), sorted(points.items(), reverse=True)
        places = [(across(bits), up(ms)) for bits, ms in ordered]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        style = 'stroke-dasharray="5 4"' if integer else ""
        width = 3 if name == "workbench" else 1.5
        yield f'<polyline points="{path}" fill="none" stroke="{ink}" '
        yield f'stroke-width="{width}" {style}/>'
        for (x, y), (bits, ms) in zip(places, ordered, strict=True):
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" stroke="{ink}" '
            yield f'stroke-width="1.5" fill="{"white" if integer else ink}">'
            kind = "int8 activations" if integer else "float activations"
            yield f"<title>{escape(name)}, {bits} bits, {kind}: {ms:.3g} ms</title></circle>"


def _series(rows: Iterable[LayerRow]) -> dict[Series, Points]:
    """The fastest row of each engine at each number of bits, float and int8 activations apart."""
    found: dict[Series, Points] = defaultdict(dict)
    for row in rows:
        points = found[family(row.engine), "a8" in row.op]
        points[row.bits] = min(row.ms_median, points.get(row.bits, math.inf))
    return found


def family(engine: str) -> str:
    """The library of an engine, which has one colour in every number type."""
    return engine.removesuffix(" fp32").removesuffix(" bf16")


def colour(name: str) -> str:
    """The colour of a library."""
    return COLOURS.get(name, OTHER)


def decades(times: Iterable[float]) -> tuple[float, float]:
    """The ends of a logarithmic axis with a little room on either side."""
    logs = [math.log10(ms) for ms in times]
    return min(logs) - 0.1, max(logs) + 0.1


def ticks(low: float, high: float) -> list[float]:
    """The round numbers between the ends of a logarithmic axis."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    return [tick for tick in ticks if low <= math.log10(tick) <= high]
