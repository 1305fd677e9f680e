"""Which model: choose one, see what it will need, load it, see what it is."""

import threading
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets as t

from workbench.errors import WorkbenchError
from workbench.widgets._base import Refused, View
from workbench.widgets._host import allowed_models, served

if TYPE_CHECKING:
    from workbench.models import LoadedModel
    from workbench.models.estimate import Estimate
    from workbench.session import Job


def choices() -> list[dict[str, str]]:
    """List what the menu offers: name, description and note of each."""
    from workbench.models import bundled

    offered = []
    for name in allowed_models(list(bundled)):
        known = bundled.get(name)
        offered.append(
            {
                "name": name,
                "description": known.description if known else "",
                "note": known.note if known else "",
            }
        )
    return offered


class ModelCard(View):
    """The model's name, size, layers and note, what it will need, and the button that loads it."""

    module = "model_card"
    calls = ("load",)
    verbs: ClassVar = ("load", "observe")

    name = t.Unicode().tag(sync=True)
    """Bundled name, local folder or hub id to load next.
    - Type: `str`, default: the recipe's model. A visitor of an app may choose from the menu only.
    """
    choices = t.List(t.Dict()).tag(sync=True)
    """The menu: dictionaries of `name`, `description` and `note`."""
    free = t.Bool(True).tag(sync=True)
    """Whether a folder or hub id may be typed; never for a visitor of an app.
    - Type: `bool`, default: `True` unless served
    """
    facts = t.Dict().tag(sync=True)
    """What was loaded: `name`, `kind`, `parameters`, `bytes`, `layers`; empty before.
    - Type: `dict`
    """
    needs = t.Dict().tag(sync=True)
    """What `name` will need, estimated before it is loaded: the fields of
    `workbench.models.estimate.Estimate` and `fits`; or the `reason` why nothing can be said.
    - Type: `dict`, default: `{}` (being found out)
    """

    def __init__(self, session: Any, **keywords: Any) -> None:
        super().__init__(
            session,
            **{"choices": choices(), "free": not served(), "name": session.recipe.model} | keywords,
        )
        self._model = session.recipe.model
        self.observe(lambda _: self._estimate_soon(), "name")
        self._estimate_soon()

    @t.validate("name")
    def _may_load(self, proposal: dict[str, Any]) -> str:
        name: str = proposal["value"].strip()
        if served():  # asked of the host: a browser may send any value for `free` and `choices`
            offered = [choice["name"] for choice in choices()]
            if name not in offered:
                raise Refused(f"no model {name!r} here; choose one of: {', '.join(offered)}.")
        return name

    def load(self) -> "Job":
        """Queue loading of `name` and one pass of observation, so that the charts fill up."""
        recipe = self.session.recipe
        if not self.name:
            raise WorkbenchError(
                "no model named; choose one from the menu or type a folder or hub id."
            )
        if recipe.model != self.name:
            self.session.update(recipe.with_model(self.name))
        self.submit("load")
        return self.submit("observe")

    def estimate(self) -> "Estimate":
        """What loading and observing `name` will need; raises WorkbenchError where none can be."""
        from workbench.models.estimate import estimate

        calibration = self.session.recipe.calibration
        return estimate(self.name, tokens=calibration.samples * calibration.length)

    def refresh(self) -> None:
        """Show the loaded model; a name typed but not yet loaded stays."""
        model = self.session.recipe.model
        if model != getattr(self, "_model", model):
            self._model = self.name = model
        self.facts = _facts(self.session.loaded) if self.session.loaded else {}

    def _estimate_soon(self) -> None:
        """Estimate in a thread of its own: a disk or the hub may be slow, and jobs may run.

        No daemon: what ends a script while torch computes in one aborts the process.
        """
        self.needs = {}
        threading.Thread(target=self._show_needs, args=(self.name,)).start()

    def _show_needs(self, name: str) -> None:
        try:
            found = self.estimate()
            needs = found.model_dump() | {"fits": found.fits}
        except Exception as problem:  # noqa: BLE001 - no estimate is no failure: loading will tell
            needs = {"reason": str(problem) or type(problem).__name__}
        if name == self.name and not self._closed:  # else another was chosen meanwhile
            self.needs = needs


def _facts(loaded: "LoadedModel") -> dict[str, Any]:
    return {
        "name": loaded.name,
        "kind": loaded.kind,
        "parameters": loaded.parameters_count,
        "bytes": loaded.bytes,
        "layers": int(getattr(loaded.model.config, "num_hidden_layers", 0)),
    }
