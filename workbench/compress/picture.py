"""The importance of heads and units as a map: a row for each layer, the best the darkest."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from workbench.graph.widths import Part

CELL, LEFT, TOP = 18, 70, 40
MOST_COLUMNS = 32  # of units, which are drawn by rank in so many groups


def importance_svg(title: str, rows: Sequence[Sequence[float]], part: Part) -> str:
    """Draw normalised scores: heads in their order, units from the best to the least, in groups."""
    shown = [_groups(row) if part == "units" else list(row) for row in rows]
    columns = max(map(len, shown), default=0)
    top = max((value for row in shown for value in row), default=0) or 1.0
    width, height = LEFT + columns * CELL + 8, TOP + len(shown) * CELL + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"',
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="4" y="16" font-weight="bold">{title}</text>',
    ]
    for layer, row in enumerate(shown):
        y = TOP + layer * CELL
        parts.append(f'<text x="{LEFT - 6}" y="{y + 13}" text-anchor="end">layer {layer}</text>')
        parts += _cells(row, y, top)
    return "\n".join([*parts, "</svg>"])


def _cells(row: Sequence[float], y: int, top: float) -> Iterator[str]:
    for place, value in enumerate(row):
        light = round(255 - 205 * value / top)
        yield (
            f'<rect x="{LEFT + place * CELL}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" '
            f'fill="rgb({light},{light},255)"><title>{place}: {value:.3f}</title></rect>'
        )


def _groups(row: Sequence[float]) -> list[float]:
    """The means of equal groups of the scores, from the best to the least."""
    ordered = sorted(row, reverse=True)
    count = min(MOST_COLUMNS, len(ordered))
    ends = [place * len(ordered) // count for place in range(count + 1)]
    return [sum(ordered[start:end]) / (end - start) for start, end in pairwise(ends)]
