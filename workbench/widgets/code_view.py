"""The same work as text: the recipe, the script that needs no widget, and what was run before."""

from typing import Any

import traitlets as t

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe, decode_recipe, diff, encode_recipe
from workbench.recipe.link import PARAMETER, read_recipe
from workbench.widgets._base import Refused, View
from workbench.widgets._host import allowed_models, served
from workbench.widgets._points import measured_points, recipe_of


class CodeView(View):
    """The live recipe as script and document, what changed in it, and the runs of this model."""

    module = "code_view"
    calls = ("copy", "download", "load_recipe", "share", "restore")

    language = t.Enum(("python", "json", "changes", "runs"), "python").tag(sync=True)
    """What is shown: the script, the document, the differences, or the runs.
    - Type: `"python"`, `"json"`, `"changes"` or `"runs"`, default: `"python"`
    """
    python = t.Unicode("").tag(sync=True)
    """The recipe as a script."""
    json = t.Unicode("").tag(sync=True)
    """The recipe as a document."""
    against = t.Unicode("default").tag(sync=True)
    """What `changes` compares with: `"default"`, `"before"` (the last change), `"saved"`,
    `"loaded"`, or the key of a run.
    - Type: `str`, default: `"default"`
    """
    others = t.List(t.List(t.Unicode())).tag(sync=True)
    """What `against` may be, as pairs of value and label."""
    changes = t.List(t.Dict()).tag(sync=True)
    """Fields that differ: dictionaries of `field`, `before` and `after`."""
    runs = t.List(t.Dict()).tag(sync=True)
    """What was measured of this model, newest first: `key`, `label`, `error`, `bytes`, `ms`,
    `samples`, `seed`, `made`, `perplexity`, `current`.
    """
    history = t.Unicode("").tag(sync=True)
    """Why runs of other sessions are missing; empty where they are not."""
    link = t.Unicode("").tag(sync=True)
    """The query string of a link to this recipe, made by `share`; empty after a change."""

    def __init__(self, session: Any, **keywords: Any) -> None:
        self._loaded: Recipe | None = None
        self._added = (-1, False)
        super().__init__(session, **keywords)
        self.observe(self._show_changes, "against")

    @t.validate("against")
    def _is_known(self, proposal: dict[str, Any]) -> str:
        value: str = proposal["value"]
        known = [key for key, _ in self.others]
        if known and value not in known:
            raise Refused(f"no recipe {value!r} to compare with; there are: {', '.join(known)}.")
        return value

    def copy(self) -> str:
        """Give the text shown (the button puts it on the clipboard)."""
        return self.python if self.language == "python" else self.json

    def download(self) -> str:
        """Give the text shown (the button saves it as a file)."""
        return self.copy()

    def load_recipe(self, text: str) -> Recipe:
        """Put a recipe from outside in force: a document, or what a link carries."""
        models = allowed_models(_bundled()) if served() else None
        written = text.strip()
        if written.startswith("{") or not written:
            recipe = read_recipe(written, models)
        else:
            code = written.rsplit(f"{PARAMETER}=", 1)[-1].split("&")[0].split("#")[0]
            recipe = decode_recipe(code, models)
        self._loaded = recipe
        self.session.update(recipe)
        self.follow()
        return recipe

    def share(self) -> str:
        """Make `link`, which an app of these notebooks opens with this recipe in force."""
        self.link = f"?{PARAMETER}={encode_recipe(self.session.recipe)}"
        return self.link

    def restore(self, key: str) -> None:
        """Put the recipe of a run in force."""
        self.session.update(recipe_of(self.session, key, []))

    def refresh(self) -> None:
        """Print the recipe anew when it changed; list what was run."""
        session = self.session
        new = self.recipe_is_new()
        if new:
            self.python = session.recipe.to_code()
            self.json = session.recipe.to_json()
            self.link = ""
        loaded = session.loaded is not None
        if new or (session.history.added, loaded) != self._added:
            self._added = (session.history.added, loaded)
            self.runs = measured_points(session)[::-1]
            self.history = session.history.problem
        others = [["default", "the default recipe"]]
        if session.past:
            others.append(["before", "before the last change"])
        if session.saved is not None:
            others.append(["saved", "as saved with the model"])
        if self._loaded is not None:
            others.append(["loaded", "as loaded from outside"])
        others += [[run["key"], f"{run['made']}: {run['label']}"] for run in self.runs]
        self.others = others
        if self.against not in [key for key, _ in others]:
            self.against = "default"
        self._show_changes()

    def _show_changes(self, _: Any = None) -> None:
        found = diff(self._other(), self.session.recipe)
        self.changes = [vars(change) for change in found]

    def _other(self) -> Recipe:
        session = self.session
        known = {
            "default": Recipe().with_model(session.recipe.model),
            "before": session.past[-1] if session.past else None,
            "saved": session.saved,
            "loaded": self._loaded,
        }
        if self.against not in known:
            return recipe_of(session, self.against, [])
        other = known[self.against]
        if other is None:
            raise WorkbenchError(f"there is no recipe {self.against!r} to compare with yet.")
        return other


def _bundled() -> list[str]:
    from workbench.models import bundled

    return list(bundled)
