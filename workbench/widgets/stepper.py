"""The head of the page: where one is, what is done, what runs, and the way back."""

from typing import TYPE_CHECKING, Any, ClassVar

import traitlets as t

from workbench.errors import WorkbenchError
from workbench.recipe import diff, summary
from workbench.session.core import verbs
from workbench.widgets._base import Refused, View
from workbench.widgets._host import place

if TYPE_CHECKING:
    from workbench.session import Job

ALL = "all"
REACHED = ("empty", "loaded", "observed", "calibrated", "frozen", "compared")
DONE_FROM = {"load": "loaded", "observe": "observed", "calibrate": "frozen", "compare": "compared"}
"""The stage from which on a step is done; the others are never finished."""


class Stepper(View):
    """The steps from load to save, of which one is shown; every job, with one cancel.

    What is edited is kept in the session's history for each notebook, so that one whose kernel was
    restarted is offered the recipe it was left with.
    """

    module = "stepper"
    calls = ("undo", "redo", "restore_left", "dismiss_left")
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
    left = t.Dict().tag(sync=True)
    """The recipe that this notebook was left with, where it is another than the one in force:
    `label`, `made`, and `fields`, how many differ; empty where there is none to restore.
    """

    def __init__(self, session: Any, **keywords: Any) -> None:
        self._left = session.history.left(place())
        self._began = session.recipe
        super().__init__(session, **keywords)

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

    def restore_left(self) -> "Job":
        """Put the recipe in force that this notebook was left with, and queue loading its model."""
        if self._left is None:
            raise WorkbenchError("there is no other recipe that this notebook was left with.")
        recipe, self._left = self._left.recipe, None
        self.session.update(recipe)
        return self.submit("observe")

    def dismiss_left(self) -> None:
        """Stay with the recipe in force; it is the one that this notebook is left with now."""
        self._left = None
        self.session.history.leave(place(), self.session.recipe)
        self.follow()

    def refresh(self) -> None:
        """Show how far the session is, and what this notebook was left with."""
        session = self.session
        reached = REACHED.index(session.stage)
        done = [step for step, stage in DONE_FROM.items() if reached >= REACHED.index(stage)]
        self.done = [*done, "recipe"] if session.saved == session.recipe else done
        self.model = session.loaded.name if session.loaded else ""
        self.can_undo, self.can_redo = bool(session.past), bool(session.future)
        if self.recipe_is_new() and session.recipe is not self._began:
            session.history.leave(place(), session.recipe)
        self._show_left()

    def _show_left(self) -> None:
        left = self._left
        changes = [] if left is None else diff(self.session.recipe, left.recipe)
        if left is None or not changes:
            self.left = {}
            return
        self.left = {
            "label": f"{left.recipe.model}, {summary(left.recipe)}",
            "made": left.made.astimezone().strftime("%Y-%m-%d %H:%M"),
            "fields": len(changes),
        }
