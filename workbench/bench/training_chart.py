"""A comparison of trainers as one SVG: speed as bars, loss curves over each other."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from workbench.bench.chart import check, write
from workbench.bench.training_report import PLAIN, TrainReport, TrainRow

# Okabe and Ito's colours, and others where theirs are too faint on white or on a dark page.
INKS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#B57900", "#2E94D0", "#9A5BD0", "#1E7F3C")
DASHES = ("", "7 3", "2 3", "9 3 2 3")
ALIKE = 4  # colours after which the dash changes: later ones are told apart by it too
WIDTH, LINE, HEAD = 1010, 24, 70
NAMES, BARS = 210, 420  # where bars begin, and how long the longest is
LEFT, TALL, FOOT = 56, 320, 40  # of the plot of losses
SAID = (
    "Times as fast as transformers' Trainer in the same turns, with two standard errors; longer is "
    "better"
)
SMOOTHED = 8  # steps: a batch of few rows has a loss of its own


@dataclass(frozen=True)
class Paper:
    """The colours of the ground, of text, of what stands back, and of lines behind curves."""

    ground: str
    text: str
    grey: str
    grid: str


WHITE = Paper("white", "#000000", "#555555", "#dddddd")
PAGE = Paper(  # as the theme of JupyterLab or Voila around it says
    "var(--jp-layout-color0, white)",
    "var(--jp-ui-font-color1, #000000)",
    "var(--jp-ui-font-color2, #555555)",
    "var(--jp-border-color2, #dddddd)",
)

Inked = tuple[TrainRow, tuple[str, str]]  # a run, its colour and its dash


def save_chart(report: TrainReport, path: Path) -> None:
    """Write the picture to `path`, an SVG or an HTML page that holds it.

    Raises WorkbenchError for another ending, and where the file cannot be written.
    """
    check(path)
    write(svg(report), "Speed and loss of trainers", path)


def svg(
    report: TrainReport,
    names: Collection[str] | None = None,
    smoothed: int = SMOOTHED,
    paper: Paper = WHITE,
) -> str:
    """Draw the bars, and under them the curves, means of so many steps.

    Of the runs called `names` (None: all), which keep the colours they have among all.
    """
    inked = [(row, ink(i)) for i, row in enumerate(fastest_first(report))]
    shown = [one for one in inked if names is None or one[0].name in names]
    low = HEAD + LINE * (len(shown) + 1) + 50
    height = low + TALL + FOOT
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
            f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12"',
            f'style="max-width: 100%; height: auto" fill="{paper.text}" role="img">',
            f"<title>{escape(report.what)}: speed and training loss</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="{paper.ground}"/>',
            f'<text x="16" y="24" font-size="15" font-weight="bold">{escape(report.what)}</text>',
            f'<text x="16" y="44" fill="{paper.grey}">{SAID}</text>',
            *_bars(report, shown, paper),
            f'<g transform="translate(0,{low})">',
            *_curves(report, shown, smoothed, paper),
            "</g>",
            "</svg>",
        ]
    )


def _bars(report: TrainReport, shown: Sequence[Inked], paper: Paper) -> Iterator[str]:
    longest = max([1.0, *(row.ratio + 2 * row.error for row, _ in shown)])
    unit = BARS / longest
    x = NAMES + unit  # where transformers' bar ends: no text crosses the line there
    plain = report.plain[0]
    rows = [(PLAIN, 1.0, 0.0, f"{plain.samples_s:.1f} samples/s", paper.grey)]
    rows += [(row.name, row.ratio, 2 * row.error, _told(row), colour) for row, (colour, _) in shown]
    for index, (name, ratio, error, told, colour) in enumerate(rows):
        y = HEAD + index * LINE
        yield f'<text x="{NAMES - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
        yield f'<rect x="{NAMES}" y="{y}" width="{ratio * unit:.1f}" height="{LINE - 8}" '
        yield f'fill="{colour}"/>'
        start, end = (NAMES + (ratio + side * error) * unit for side in (-1, 1))
        if error:
            yield f'<line x1="{start:.1f}" x2="{end:.1f}" y1="{y + 8}" y2="{y + 8}" '
            yield f'stroke="{paper.text}"/>'
        yield f'<text x="{max(end, x) + 8:.1f}" y="{y + 13}">{escape(told)}</text>'
    yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD - 6}" y2="{HEAD + LINE * len(rows)}" '
    yield f'stroke="{paper.grey}" stroke-dasharray="3 3"/>'


def _told(row: TrainRow) -> str:
    told = f"x {row.ratio:.2f}, loss {row.held_out:.4f}, {row.parity}"
    return f"{told}; x {row.with_compile:.2f} with compiling" if row.compile_s >= 0.1 else told


def _curves(
    report: TrainReport, shown: Sequence[Inked], smoothed: int, paper: Paper
) -> Iterator[str]:
    drawn = [*report.plain, *(row for row, _ in shown)]
    curves = [_smooth(row.losses, smoothed) for row in drawn]
    values = [value for curve in curves for value in curve]
    low, high = min(values), max(values)
    span = high - low or 1.0
    wide = WIDTH - LEFT - 230
    digits = max(1, 1 - math.floor(math.log10(span)))

    def place(step: int, value: float) -> str:
        x = LEFT + wide * step / max(1, report.steps - smoothed)
        return f"{x:.1f},{TALL - (TALL - 20) * (value - low) / span:.1f}"

    mean = f", mean of {smoothed} steps" if smoothed > 1 else ""
    yield f'<text x="16" y="0" fill="{paper.grey}">Training loss{mean}, by step; '
    yield "transformers' Trainer has a line for each seed; equal curves hide each other</text>"
    for part in range(5):
        value = low + span * part / 4
        y = TALL - (TALL - 20) * part / 4
        yield f'<line x1="{LEFT}" x2="{LEFT + wide}" y1="{y:.0f}" y2="{y:.0f}" '
        yield f'stroke="{paper.grid}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{value:.{digits}f}</text>'
    yield f'<text x="{LEFT}" y="{TALL + 20}" fill="{paper.grey}">step {smoothed}</text>'
    yield f'<text x="{LEFT + wide}" y="{TALL + 20}" text-anchor="end" '
    yield f'fill="{paper.grey}">step '
    yield f"{report.steps}</text>"
    pens = [(paper.grey, "", 4.0) for _ in report.plain] + [(*pen, 1.8) for _, pen in shown]
    for row, curve, (colour, dash, width) in zip(drawn, curves, pens, strict=True):
        points = " ".join(place(step, value) for step, value in enumerate(curve))
        faint = ' stroke-opacity="0.35"' if row.name == PLAIN else ""
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" '
        yield f'stroke-dasharray="{dash}"{faint}><title>{escape(row.name)}</title></polyline>'
    legend = [(PLAIN, (paper.grey, "")), *((row.name, pen) for row, pen in shown)]
    for i, (name, (colour, dash)) in enumerate(legend):
        y, x = 24 + i * 18, LEFT + wide + 24
        yield f'<line x1="{x}" x2="{x + 34}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2" '
        yield f'stroke-dasharray="{dash}"/><text x="{x + 42}" y="{y + 4}">{escape(name)}</text>'


def ink(index: int) -> tuple[str, str]:
    """A colour and a dash that no other line has."""
    return INKS[index % len(INKS)], DASHES[index // ALIKE % len(DASHES)]


def fastest_first(report: TrainReport) -> list[TrainRow]:
    """The runs of our trainer."""
    return sorted((row for row in report.rows if row.name != PLAIN), key=lambda row: -row.ratio)


def _smooth(losses: Sequence[float], smoothed: int) -> list[float]:
    count = min(smoothed, len(losses))
    return [sum(losses[i : i + count]) / count for i in range(len(losses) - count + 1)]
