"""What each accelerator of a training run brought: speed, loss curves, and whether both agree."""

import ipywidgets
import traitlets as t

from workbench.bench.training_chart import SMOOTHED, fastest_first
from workbench.bench.training_page import html
from workbench.bench.training_report import TrainReport
from workbench.errors import WorkbenchError

ROWS = 12  # of the menu; more are scrolled to
FAR = 64  # steps; a longer mean hides what a curve does


class TrainerView(ipywidgets.VBox):
    """The picture and the table of what `workbench.train_bench` measured, of the runs one chooses.

    Transformers' own runs are always there to compare with.
    """

    names = t.Tuple()
    """The runs that are shown beside transformers' own.
    - Type: `tuple` of `str`, default: all
    """
    smoothed = t.Int(SMOOTHED)
    """Steps whose mean is a point of a curve.
    - Type: `int` from 1, default: `8`, or as many as there are
    """

    def __init__(self, report: TrainReport) -> None:
        self._report = report
        self._page = ipywidgets.HTML()
        every = tuple(dict.fromkeys(row.name for row in fastest_first(report)))
        most = max(1, min(FAR, report.steps // 2))
        self.choice = ipywidgets.SelectMultiple(
            options=every, value=every, rows=max(1, min(len(every), ROWS)), description="Runs:",
            tooltip="Several: with Ctrl or Shift",
        )  # fmt: skip
        self.mean = ipywidgets.IntSlider(
            value=min(SMOOTHED, most), min=1, max=most, description="Mean of",
            readout_format="d", continuous_update=False,
        )  # fmt: skip
        controls = ipywidgets.HBox([self.choice, self.mean, ipywidgets.Label("steps")])
        super().__init__([controls, self._page], names=every, smoothed=self.mean.value)
        t.link((self.choice, "value"), (self, "names"))
        t.link((self.mean, "value"), (self, "smoothed"))
        self.observe(self._show, ["names", "smoothed"])
        self._show(None)

    @t.validate("names")
    def _known(self, proposal: dict[str, object]) -> tuple[str, ...]:
        names: tuple[str, ...] = tuple(proposal["value"])  # type: ignore[arg-type]
        for name in names:
            if name not in self.choice.options:
                raise WorkbenchError(
                    f"there is no run {name!r}; allowed: {', '.join(self.choice.options)}"
                )
        return names

    @t.validate("smoothed")
    def _possible(self, proposal: dict[str, object]) -> int:
        steps = int(proposal["value"])  # type: ignore[call-overload]
        if not 1 <= steps <= self.mean.max:
            raise WorkbenchError(f"a mean of {steps} steps; allowed: 1 to {self.mean.max}")
        return steps

    def _show(self, _: object) -> None:
        self._page.value = html(self._report, self.names, self.smoothed)
