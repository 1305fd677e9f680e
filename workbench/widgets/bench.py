"""All views of one session on one page."""

from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets as t

from workbench.errors import WorkbenchError
from workbench.widgets.alpha_explorer import AlphaExplorer
from workbench.widgets.calibration_panel import CalibrationPanel
from workbench.widgets.code_view import CodeView
from workbench.widgets.comparison_view import ComparisonView
from workbench.widgets.layer_table import LayerTable
from workbench.widgets.model_card import ModelCard
from workbench.widgets.outlier_view import OutlierView

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.session import Job, Session


class Workbench(ipywidgets.VBox):
    """The whole workbench over one session, from the choice of a model to code.

    Every button on the page has a method of the same name here: `load`, `gather`, `measure`,
    `calibrate`, `freeze`, `compare`, `profile`, `save`, `cancel`.
    """

    def __init__(self, session: "Session", **keywords: Any) -> None:
        unknown = [name for name in keywords if name != "layout"]
        if unknown:
            raise WorkbenchError(
                f"Workbench has no option {unknown[0]!r}; it takes a session and `layout`. "
                "Give other options to the single views."
            )
        self.session = session
        self.model = ModelCard(session)
        self.layers = LayerTable(session)
        self.outliers = OutlierView(session)
        self.alpha = AlphaExplorer(session)
        self.calibration = CalibrationPanel(session)
        self.comparison = ComparisonView(session)
        self.script = CodeView(session)
        self._links = [
            t.link((self.layers, "group"), (view, "group")) for view in (self.outliers, self.alpha)
        ]
        super().__init__(
            [
                self.model,
                _side_by_side(self.layers, self.outliers),
                self.alpha,
                _side_by_side(
                    ipywidgets.VBox([self.calibration, self.script]),
                    self.comparison,
                ),
            ],
            **keywords,
        )

    def load(self) -> "Job":
        """Queue loading and observation of the chosen model."""
        return self.model.load()

    def gather(self) -> "Job":
        """Queue one pass of observation."""
        return self.outliers.gather()

    def calibrate(self) -> "Job":
        """Queue calibration."""
        return self.calibration.calibrate()

    def freeze(self) -> "Job":
        """Queue freezing."""
        return self.calibration.freeze()

    def measure(self) -> "Job":
        """Queue a sweep over alpha."""
        return self.alpha.measure()

    def profile(self) -> "Job":
        """Queue timing of every layer."""
        return self.layers.profile()

    def compare(self) -> "Job":
        """Queue a comparison with the float model."""
        return self.comparison.compare()

    def save(self, folder: "str | Path | None" = None) -> "Job":
        """Queue saving to `folder`, or to the one in the field."""
        if folder is not None:
            self.comparison.folder = str(folder)
        return self.comparison.save()

    def cancel(self) -> None:
        """Cancel every job that is queued or running."""
        self.model.cancel()

    def close(self) -> None:
        """Stop following the session and remove all views."""
        links, self._links = getattr(self, "_links", []), []
        for link in links:
            link.unlink()
        for name in ("model", "layers", "outliers", "alpha", "calibration", "comparison", "script"):
            if hasattr(self, name):
                getattr(self, name).close()
        super().close()


def _side_by_side(*views: ipywidgets.DOMWidget) -> ipywidgets.Box:
    """Put views in one row that breaks into a column on a narrow page."""
    for view in views:
        view.layout = ipywidgets.Layout(flex="1 1 520px", min_width="0", margin="0")
    return ipywidgets.Box(
        list(views),
        layout=ipywidgets.Layout(display="flex", flex_flow="row wrap", overflow="visible"),
    )
