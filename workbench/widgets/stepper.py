"""The head of the page: where one is, what is done, what runs, and the way back."""

from typing import Any, ClassVar

import traitlets as t

from workbench.session.core import verbs
from workbench.widgets._base import Refused, View

ALL = "all"
REACHED = ("empty", "loaded", "observed", "calibrated", "frozen", "compared")
DONE_FROM = {"load": "loaded", "observe": "observed", "calibrate": "frozen", "compare": "compared"}
"""The stage from which on a step is done; the others are never finished."""


class Stepper(View):
    """The steps from load to save, of which one is shown; every job, with one cancel."""

    module = "stepper"
    calls = ("undo", "redo")
    verbs: ClassVar = tuple(verbs)

    steps = t.List(t.List(t.Unicode())).tag(sync=True)
    """The steps as pairs of name and label, in order."""
    step = t.Unicode("").tag(sync=True)
    """The step shown; `"all"` shows every one.
    - Type: `str`, default: the first
    """
    done = t.List(t.Unicode()).tag(sync=True)
    """The steps that are done for the recipe in force."""
    model = t.Unicode("").tag(sync=True)
    """The name of the model that is loaded; empty before."""
    can_undo = t.Bool(False).tag(sync=True)
    """Whether there is a change of the recipe to take back."""
    can_redo = t.Bool(False).tag(sync=True)
    """Whether there is a change that was taken back."""

    @t.validate("step")
    def _is_step(self, proposal: dict[str, Any]) -> str:
        step: str = proposal["value"]
        known = [name for name, _ in self.steps] + [ALL]
        if step not in known:
            raise Refused(f"no step {step!r}; choose one of: {', '.join(known)}.")
        return step

    def undo(self) -> None:
        """Take back the last change of the recipe."""
        self.session.undo()

    def redo(self) -> None:
        """Make the change again that was taken back last."""
        self.session.redo()

    def refresh(self) -> None:
        """Show how far the session is."""
        session = self.session
        reached = REACHED.index(session.stage)
        done = [step for step, stage in DONE_FROM.items() if reached >= REACHED.index(stage)]
        self.done = [*done, "recipe"] if session.saved == session.recipe else done
        self.model = session.loaded.name if session.loaded else ""
        self.can_undo, self.can_redo = bool(session.past), bool(session.future)
