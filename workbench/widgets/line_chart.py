"""A chart of a few named curves for a lecture: follows the theme, and is a table as well."""

from collections.abc import Iterable, Mapping
from typing import Any

import anywidget
import traitlets as t

from workbench.errors import WorkbenchError
from workbench.widgets import _assets
from workbench.widgets._arrays import finite

MOST_SERIES = 5  # as many as have a colour, a dash and a marker of their own

Curve = tuple[Iterable[float | str], Iterable[float]]


class LineChart(anywidget.AnyWidget):
    """Curves told apart by colour, dash and marker, with a legend and the figures as a table.

    `curves` maps a name to its x and y. Where x are words, the points stand over them unjoined. A
    y that is not finite, or not positive on a logarithmic axis, is left out of the picture and not
    of the table. Raises WorkbenchError for more curves than can be told apart, and for lengths
    that differ.
    """

    _esm = _assets.module("line_chart")
    _css = _assets.stylesheet()

    title = t.Unicode().tag(sync=True)
    """What the picture shows, in a sentence."""
    series = t.List(t.Dict()).tag(sync=True)
    """The curves: dictionaries of `name`, `x` and `y`."""
    words = t.List(t.Unicode()).tag(sync=True)
    """The ticks of an x axis of words; empty for numbers."""
    x = t.Unicode().tag(sync=True)
    """What the x axis shows, with its unit."""
    y = t.Unicode().tag(sync=True)
    """What the y axis shows, with its unit."""
    log_x = t.Bool(False).tag(sync=True)
    """Whether the x axis is logarithmic."""
    log_y = t.Bool(False).tag(sync=True)
    """Whether the y axis is logarithmic."""
    from_zero = t.Bool(False).tag(sync=True)
    """Whether a linear y axis starts at 0, so that small differences look small."""

    def __init__(
        self,
        title: str,
        curves: Mapping[str, Curve],
        *,
        x: str,
        y: str,
        log_x: bool = False,
        log_y: bool = False,
        from_zero: bool = False,
    ) -> None:
        if not 1 <= len(curves) <= MOST_SERIES:
            raise WorkbenchError(
                f"{len(curves)} curves cannot be told apart; give 1 to {MOST_SERIES}."
            )
        made = [_series(name, *curve) for name, curve in curves.items()]
        words = list(dict.fromkeys(v for one in made for v in one["x"] if isinstance(v, str)))
        axes = {"x": x, "y": y, "log_x": log_x, "log_y": log_y, "from_zero": from_zero}
        super().__init__(title=title, series=made, words=words, **axes)


def _series(name: str, x: Iterable[float | str], y: Iterable[float]) -> dict[str, Any]:
    xs = [v if isinstance(v, str) else float(v) for v in x]
    ys = [finite(float(v)) for v in y]
    if len(xs) != len(ys):
        raise WorkbenchError(f"curve {name!r} has {len(xs)} x and {len(ys)} y; give as many.")
    return {"name": name, "x": xs, "y": ys}
