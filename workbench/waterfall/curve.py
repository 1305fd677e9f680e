"""Accuracy against time: a mark for each variant, its interval, and who loses to whom."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from workbench.waterfall.document import Row, Waterfall

# Colours that those who see fewer of them tell apart (Okabe and Ito), one for each engine.
COLOURS = {
    "torch": "#555555",
    "workbench": "#D55E00",
    "workbench compiled": "#E69F00",
    "onnxruntime": "#0072B2",
}
LOST = "#888888"  # the words of those that another beats
TITLE = "What accuracy costs: right answers against seconds for all of them, one by one"
SUBTITLE = (
    "bars: 95 % of chance (Wilson); thin lines: what was made of what; "
    "thick line: the most accurate in that time"
)
LEFT, TOP, WIDTH, HEIGHT, BOTTOM, LEGEND, LINE = 56, 60, 460, 360, 44, 440, 17
TICKS = (1, 2, 5)


def curve_svg(found: Waterfall) -> str:
    """Draw the judged rows of `found`; the slowest lie left, so that better is up and right."""
    rows = found.judged
    spots = _Spots(rows)
    height = TOP + max(HEIGHT + BOTTOM, LINE * (len(rows) + 1))
    width = LEFT + WIDTH + 16 + LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"',
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(found.title)}: accuracy against time</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="8" y="20" font-size="15" font-weight="bold">{TITLE}</text>',
        f'<text x="8" y="40" fill="#555">{SUBTITLE}</text>',
        *spots.axes(),
    ]
    for row in rows:
        before = found.before(row)
        if before is not None and before in rows:
            parts.append(spots.line(before, row))
    parts.append(spots.stairs(found.front))
    for number, row in enumerate(rows, 1):
        parts += spots.mark(row, number)
    for number, row in enumerate(rows, 1):
        parts.append(_legend(found, row, number))
    return "\n".join([*parts, "</svg>"])


def beaten_by(row: Row, rows: Sequence[Row]) -> Row | None:
    """The most accurate of `rows` that is faster than `row` and as accurate, if any."""
    better = [one for one in rows if one.seconds < row.seconds and _right(one) >= _right(row)]
    return max(better, key=_right, default=None)


def _right(row: Row) -> float:
    """The accuracy of a row that is judged."""
    assert row.accuracy is not None
    return row.accuracy


class _Spots:
    """Where things are drawn: seconds on a logarithmic scale, falling; shares of right answers."""

    def __init__(self, rows: Sequence[Row]) -> None:
        ends = [end for row in rows for end in (row.interval or ())]
        self.low = math.floor(100 * min(ends)) / 100
        self.high = math.ceil(100 * max(ends)) / 100
        times = [row.seconds for row in rows]
        self.fast, self.slow = 0.8 * min(times), 1.25 * max(times)

    def x(self, seconds: float) -> float:
        share = math.log(self.slow / seconds) / math.log(self.slow / self.fast)
        return LEFT + WIDTH * share

    def y(self, accuracy: float) -> float:
        return TOP + HEIGHT * (self.high - accuracy) / (self.high - self.low)

    def axes(self) -> Iterator[str]:
        bottom, right = TOP + HEIGHT, LEFT + WIDTH
        for percent in range(round(100 * self.low), round(100 * self.high) + 1):
            y = self.y(percent / 100)
            yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#eeeeee"/>'
            yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>'
        first = math.floor(math.log10(self.fast))
        for tick in (step * 10.0**power for power in range(first, first + 6) for step in TICKS):
            if self.fast <= tick <= self.slow:
                x = self.x(tick)
                yield f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#eeeeee"/>'
                yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g} s</text>'
        yield f'<text x="{right}" y="{bottom + 34}" text-anchor="end" fill="#555">faster →</text>'

    def line(self, before: Row, row: Row) -> str:
        points = (f"{self.x(r.seconds):.1f} {self.y(_right(r)):.1f}" for r in (before, row))
        return f'<path d="M{" L".join(points)}" stroke="#bbbbbb"/>'

    def stairs(self, front: Sequence[Row]) -> str:
        """The best accuracy to be had in a time; nothing was measured between two marks."""
        first, *rest = front
        path = f"M{self.x(first.seconds):.1f} {self.y(_right(first)):.1f}"
        for row in rest:
            path += f"H{self.x(row.seconds):.1f}V{self.y(_right(row)):.1f}"
        return f'<path d="{path}" fill="none" stroke="#222222" stroke-width="2"/>'

    def mark(self, row: Row, number: int) -> Iterator[str]:
        x, (low, high) = self.x(row.seconds), row.interval or (0.0, 0.0)
        y = self.y(_right(row))
        colour = COLOURS[row.engine]
        yield f'<path d="M{x:.1f} {self.y(low):.1f}V{self.y(high):.1f}" stroke="{colour}"'
        yield 'stroke-opacity="0.35" stroke-width="2"/>'
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="{colour}"/>'
        yield f'<text x="{x:.1f}" y="{y + 4:.1f}" fill="white" font-size="10"'
        yield f'font-weight="bold" text-anchor="middle">{number}</text>'


def _legend(found: Waterfall, row: Row, number: int) -> str:
    """A number, what it is, its figures, and who is better, if anyone."""
    x, y = LEFT + WIDTH + 28, TOP + LINE * number
    winner = beaten_by(row, found.judged)
    words = f"{number}  {row.name}: {row.accuracy:.1%}, {row.seconds:.3g} s"
    if winner is not None:
        words += f", beaten by {found.judged.index(winner) + 1}"
    style = f'fill="{LOST}"' if winner is not None else 'fill="#111111" font-weight="bold"'
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'
