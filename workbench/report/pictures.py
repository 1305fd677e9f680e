"""The pictures of a report: rows of bars or of points with an interval, as plain geometry."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from workbench.compare import Difference, Timing
from workbench.report.document import Report

LABEL, PLOT, SIDE, ROW = 250, 330, 180, 22  # widths of label, plot and figure; height of a row
FORMS = ("fp32", "bf16", "quantized")


@dataclass(frozen=True)
class Mark:
    """One row: what it is, its figure as text, and where bar and whiskers lie, in pixels."""

    label: str
    text: str
    start: float
    end: float
    low: float | None = None
    high: float | None = None
    ours: bool = True


@dataclass(frozen=True)
class Picture:
    """Rows under a title; `zero` is where a dashed line marks no difference."""

    title: str
    marks: list[Mark]
    points: bool = False
    zero: float | None = None

    @property
    def height(self) -> int:
        """Of the drawing, in pixels."""
        return ROW * len(self.marks) + 8


def sizes(report: Report) -> Picture:
    """Bytes on disk of the three forms."""
    found = report.judged.bytes
    scale = PLOT / max(found.values())
    return Picture(
        "Bytes on disk; shorter is better",
        [
            Mark(form, f"{found[form]:,} bytes", 0, found[form] * scale, ours=form == "quantized")
            for form in FORMS
        ],
    )


def times(report: Report) -> list[Picture]:
    """Milliseconds of the three forms in each phase, with the quartiles as whiskers."""
    phases = {"prefill_ms": "Prefill", "decode_ms": "Decode, one token", "linear_ms": "Linears"}
    pictures = []
    for key, title in phases.items():
        found = {form: getattr(report.judged.speed[form], key) for form in FORMS}
        if all(found.values()):
            title = f"{title}: milliseconds, median and quartiles; shorter is better"
            pictures.append(Picture(title, list(_timed(found))))
    return pictures


def _timed(found: dict[str, Timing]) -> Iterator[Mark]:
    scale = PLOT / max(one.high for one in found.values())
    for form, one in found.items():
        text = f"{one.median:.3g} ({one.low:.3g} to {one.high:.3g})"
        places = (one.median * scale, one.low * scale, one.high * scale)
        yield Mark(form, text, 0, *places, ours=form == "quantized")


def layer_times(report: Report) -> Picture:
    """The share of a prefill that each linear of the quantized model takes."""
    found = report.layer_times["quantized"]
    spent = {**found.layers, "outside the linears": found.rest}
    rows = [(name, 100 * spent[name] / found.prefill_ms.median) for name in spent]
    title = "Where a prefill of the quantized model goes, every linear watched"
    return Picture(title, list(_bars(rows, "%")))


def quality(report: Report) -> Picture | None:
    """Each task's difference from fp32, relative to its score, with the interval of 95 %."""
    rows = [
        (f"{task.task}, {form}", task, form == "quantized")
        for pair in _pairs(report)
        for form, task in pair
        if task.reference
    ]
    if not rows:
        return None
    ends = [_share(task, value) for _, task, _ in rows for value in (task.low, task.high)]
    reach = max(*map(abs, ends), 1e-6)

    def across(share: float) -> float:
        return PLOT / 2 * (1 + share / reach)

    marks = []
    for label, task, ours in rows:
        share = _share(task, task.candidate - task.reference)
        at, low, high = map(across, (share, _share(task, task.low), _share(task, task.high)))
        marks.append(Mark(label, f"{share:+.2%}, {task.verdict}", at, at, low, high, ours))
    title = "Difference of the score from fp32, with the interval of 95 %"
    return Picture(title, marks, points=True, zero=PLOT / 2)


def _pairs(report: Report) -> Iterator[tuple[tuple[str, Difference], ...]]:
    others = {task.task: task for task in report.judged.bf16}
    for task in report.judged.tasks:
        other = others.get(task.task)
        yield (*((("bf16", other),) if other else ()), ("quantized", task))


def _share(task: Difference, value: float) -> float:
    return value / abs(task.reference)


def errors(report: Report) -> Picture:
    """The SQNR of every linear's output."""
    rows = [(layer.name, layer.sqnr_db) for layer in report.comparison.layers]
    title = "SQNR of each layer's output, dB, layers before it included; longer is better"
    return Picture(title, list(_bars(rows, "dB")))


def outliers(report: Report) -> Picture:
    """How far the loudest channel of every input stands out."""
    rows = [(one.name, one.ratio) for one in report.inputs]
    title = "Largest channel over the median channel of each input; shorter is easier"
    return Picture(title, list(_bars(rows, "times")))


def _bars(rows: Sequence[tuple[str, float]], unit: str) -> Iterator[Mark]:
    top = max(_finite(value for _, value in rows), default=1.0)
    for label, value in rows:
        share = max(value, 0) / top if math.isfinite(value) else 1.0
        text = f"{value:.1f} {unit}" if math.isfinite(value) else "infinite"
        yield Mark(label, text, 0, PLOT * share)


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value) and value > 0]
