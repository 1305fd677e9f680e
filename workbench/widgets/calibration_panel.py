"""Set the activation ranges: choose the data and the scheme, calibrate, freeze."""

from typing import TYPE_CHECKING, Any, ClassVar

import traitlets as t

from workbench.quant.args import OBSERVERS
from workbench.widgets._base import View, checked

if TYPE_CHECKING:
    from workbench.session import Job

CALIBRATION = ("samples", "length", "observer")


class CalibrationPanel(View):
    """Samples, length, observer and scheme, with progress, cancel and freeze."""

    module = "calibration_panel"
    calls = ("calibrate", "freeze")
    verbs: ClassVar = ("calibrate", "freeze")

    samples = t.Int(32).tag(sync=True)
    """Calibration sequences.
    - Type: `int` of at least 1, default: the recipe's
    """
    length = t.Int(256).tag(sync=True)
    """Tokens in a sequence.
    - Type: `int` of at least 2, default: the recipe's
    """
    observer = t.Enum(OBSERVERS, "max").tag(sync=True)
    """How ranges are gathered over batches.
    - Type: one of `workbench.quant.args.OBSERVERS`, default: the recipe's
    """
    scheme = t.Enum(("o1", "o2", "o3", "none"), "o3").tag(sync=True)
    """`"o3"`: one calibrated range a tensor; `"o1"`, `"o2"`: a range for every token or
    tensor, found while running; `"none"`: activations stay in float.
    - Type: `str`, default: the recipe's
    """
    stage = t.Unicode("empty").tag(sync=True)
    """How far the session is: empty, loaded, observed, calibrated, frozen, compared."""

    def __init__(self, session: Any, **keywords: Any) -> None:
        super().__init__(session, **keywords)
        self.observe(self._edit, list(CALIBRATION))
        self.observe(self._choose, "scheme")

    @t.validate("samples", "length")
    def _enough(self, proposal: dict[str, Any]) -> int:
        with checked():
            self.session.recipe.with_calibration(**{proposal["trait"].name: proposal["value"]})
        return int(proposal["value"])

    def calibrate(self) -> "Job":
        """Queue calibration of the smoothed, quantized model; earlier stages are made up for."""
        return self.submit("calibrate")

    def freeze(self) -> "Job":
        """Queue freezing: weights become integers and activation ranges are fixed."""
        return self.submit("freeze")

    def refresh(self) -> None:
        """Show the recipe's choices and how far the session is."""
        if self.recipe_is_new():
            recipe = self.session.recipe
            for name in CALIBRATION:
                setattr(self, name, getattr(recipe.calibration, name))
            self.scheme = recipe.scheme
        self.stage = self.session.stage

    def _edit(self, change: Any) -> None:
        if not self.following:
            recipe = self.session.recipe
            self.session.update(recipe.with_calibration(**{change["name"]: change["new"]}))

    def _choose(self, change: Any) -> None:
        if not self.following:
            self.session.update(self.session.recipe.with_scheme(change["new"]))
