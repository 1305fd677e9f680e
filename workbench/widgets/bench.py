"""All views of one session on one page, which leads from a model to a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets

from workbench.errors import WorkbenchError
from workbench.widgets._base import View
from workbench.widgets.alpha_explorer import AlphaExplorer
from workbench.widgets.bits_editor import BitsEditor
from workbench.widgets.calibration_panel import CalibrationPanel
from workbench.widgets.chat_view import ChatView
from workbench.widgets.code_view import CodeView
from workbench.widgets.comparison_view import ComparisonView
from workbench.widgets.layer_table import LayerTable
from workbench.widgets.model_card import ModelCard
from workbench.widgets.outlier_view import OutlierView
from workbench.widgets.stepper import Stepper
from workbench.widgets.training_panel import TrainingPanel

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.session import Job, Session

STEPS = {
    "load": "Load",
    "observe": "Observe",
    "smooth": "Smooth",
    "quantize": "Quantize",
    "calibrate": "Calibrate",
    "compare": "Compare, save",
    "recipe": "Recipe",
}


@dataclass(frozen=True)
class Place:
    """Where a view stands: under which step, by which name the page has it, and how wide."""

    step: str
    name: str
    view: type[View]
    wide: bool = False


PLACES = [
    Place("load", "model", ModelCard),
    Place("load", "layers", LayerTable, wide=True),
    Place("observe", "outliers", OutlierView),
    Place("smooth", "alpha", AlphaExplorer),
    Place("quantize", "bits", BitsEditor),
    Place("calibrate", "calibration", CalibrationPanel),
    Place("calibrate", "training", TrainingPanel),
    Place("compare", "comparison", ComparisonView, wide=True),
    Place("compare", "chat", ChatView, wide=True),
    Place("recipe", "script", CodeView),
]


class Workbench(ipywidgets.VBox):
    """The whole workbench over one session, from the choice of a model to code.

    Every view is an attribute by its name in `PLACES`, and every button on the page has a method of
    the same name here. `step` is the step shown.
    """

    model: ModelCard
    layers: LayerTable
    comparison: ComparisonView

    def __init__(self, session: "Session", *, step: str = "load", **keywords: Any) -> None:
        unknown = [name for name in keywords if name != "layout"]
        if unknown:
            raise WorkbenchError(
                f"Workbench has no option {unknown[0]!r}; it takes a session, `step` and `layout`. "
                "Give other options to the single views."
            )
        self.session = session
        self.views = {place.name: place.view(session) for place in PLACES}
        for name, view in self.views.items():
            setattr(self, name, view)
        steps = [list(pair) for pair in STEPS.items()]
        self.stepper = Stepper(session, steps=steps)
        self.step = step
        super().__init__([self.stepper, *(self._panel(name) for name in STEPS)], **keywords)
        self.add_class("qw-bench")

    @property
    def step(self) -> str:
        """The step shown: one of `STEPS`, or `"all"` for every one on one page."""
        return str(self.stepper.step)

    @step.setter
    def step(self, value: str) -> None:
        self.stepper.step = value

    def save(self, folder: "str | Path | None" = None) -> "Job":
        """Queue saving to `folder`, or to the one in the field."""
        if folder is not None:
            self.comparison.folder = str(folder)
        return self.comparison.save()

    def cancel(self) -> None:
        """Cancel every job that is queued or running."""
        self.stepper.cancel()

    def restore_left(self) -> "Job":
        """Put the recipe in force that this notebook was left with before its kernel ended."""
        return self.stepper.restore_left()

    def dismiss_left(self) -> None:
        """Stay with the recipe in force, and be offered the other one no more."""
        self.stepper.dismiss_left()

    def close(self) -> None:
        """Stop following the session and remove all views and the panels they lie in."""
        for view in getattr(self, "views", {}).values():
            view.close()
        for child in self.children:
            child.close()
        super().close()

    def _panel(self, step: str) -> ipywidgets.Box:
        """The views of one step in rows that break into a column on a narrow page."""
        views = []
        for place in (place for place in PLACES if place.step == step):
            flex = f"1 1 {'100%' if place.wide else '520px'}"
            views.append(self.views[place.name])
            views[-1].layout = ipywidgets.Layout(flex=flex, min_width="0", margin="0")
        panel = ipywidgets.Box(
            views,
            layout=ipywidgets.Layout(display="flex", flex_flow="row wrap", overflow="visible"),
        )
        panel.add_class("qw-panel")
        panel.add_class(f"qw-panel-{step}")
        return panel


def _passing_on(name: str, call: str, view: type[View]) -> Callable[..., Any]:
    """A method that calls the one of the same name of the view `name`."""

    def method(self: Workbench, *arguments: Any) -> Any:
        return getattr(self.views[name], call)(*arguments)

    method.__name__, method.__doc__ = call, getattr(view, call).__doc__
    return method


for _place in PLACES:
    for _call in _place.view.calls:
        if _call not in vars(Workbench):
            setattr(Workbench, _call, _passing_on(_place.name, _call, _place.view))
