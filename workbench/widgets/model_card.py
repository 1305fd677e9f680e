"""Which model: choose one, load it, see what it is."""

from typing import TYPE_CHECKING, Any, ClassVar

import traitlets as t

from workbench.errors import WorkbenchError
from workbench.widgets._base import Refused, View
from workbench.widgets._host import allowed_models, served

if TYPE_CHECKING:
    from workbench.models import LoadedModel
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
    """The model's name, size, layers and note, with the button that loads it."""

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

    def __init__(self, session: Any, **keywords: Any) -> None:
        super().__init__(
            session,
            **{"choices": choices(), "free": not served(), "name": session.recipe.model} | keywords,
        )
        self._model = session.recipe.model

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

    def refresh(self) -> None:
        """Show the loaded model; a name typed but not yet loaded stays."""
        model = self.session.recipe.model
        if model != getattr(self, "_model", model):
            self._model = self.name = model
        self.facts = _facts(self.session.loaded) if self.session.loaded else {}


def _facts(loaded: "LoadedModel") -> dict[str, Any]:
    return {
        "name": loaded.name,
        "kind": loaded.kind,
        "parameters": loaded.parameters_count,
        "bytes": loaded.bytes,
        "layers": int(getattr(loaded.model.config, "num_hidden_layers", 0)),
    }
