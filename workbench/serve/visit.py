"""What a visitor asks for in the address of an app: a model, a recipe, single fields of it.

    …/voila/render/workbench.ipynb?model=pylm&alpha=0.7&scheme=o1
    …/voila/render/workbench.ipynb?recipe=NAME      a recipe that the operator offers
    …/voila/render/workbench.ipynb?recipe=eJwL…     one that `workbench.recipe.link` wrote

Nothing of it is trusted, none of it is a path, and a value that is refused leaves the others.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import parse_qsl

from workbench.errors import WorkbenchError
from workbench.garbage import uncollected

with uncollected():
    from workbench.models import bundled
    from workbench.recipe import Recipe
    from workbench.recipe.link import decode_recipe, safe_recipe
    from workbench.widgets._host import allowed_models, served

RECIPES = "WORKBENCH_RECIPES"
OURS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MOST_SHOWN = 80  # characters of a refused value
FOREIGN = ("theme", "token")  # Voila's own


@dataclass(frozen=True)
class Visit:
    """The recipe to start from, and what of the address was refused, in sentences."""

    recipe: Recipe
    refused: tuple[str, ...] = ()

    @property
    def html(self) -> str:
        """A box that names what was refused; empty where nothing was."""
        if not self.refused:
            return ""
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.refused)
        style = "border: 2px solid var(--jp-error-color1, #b00020); padding: 0.5em 1em"
        return (
            f'<div role="alert" class="qw-refused" style="{style}">'
            f"<b>✖ The address of this page asks for what cannot be had:</b><ul>{items}</ul>"
            "The rest of it was followed.</div>"
        )

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        if self.refused:
            display(HTML(self.html))


def visit(recipe: Recipe | None = None, query: str | None = None) -> Visit:
    """Follow the address that this page was opened with; `recipe` is where it starts from.

    Only an app has visitors: in a notebook of one's own `recipe` stays as it is. `query` is the
    part after the question mark, unless given what Voila says of this request.
    """
    recipe = recipe or Recipe()
    if query is None:
        query = os.environ.get("QUERY_STRING", "") if served() else ""
    refused = []
    try:
        asked = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=20))
    except ValueError:
        return Visit(recipe, ("It has more than 20 fields.",))
    for name in sorted(asked, key=lambda name: name != "recipe"):  # the others refine it
        if name in FOREIGN:
            continue
        try:
            recipe = _field(name)(recipe, asked[name])
        except WorkbenchError as problem:
            refused.append(f"{_shown(name)}={_shown(asked[name])}: {_shown(str(problem), 400)}")
    return Visit(recipe, tuple(refused))


def offered_recipes() -> dict[str, Path]:
    """The recipes that the operator offers, by name; none where no folder was given."""
    folder = os.environ.get(RECIPES)
    files = sorted(Path(folder).glob("*.json")) if folder else []
    return {file.stem: file for file in files if OURS.fullmatch(file.stem)}


def _field(name: str) -> Callable[[Recipe, str], Recipe]:
    try:
        return FIELDS[name]
    except KeyError:
        raise WorkbenchError(f"no such field; allowed: {', '.join(FIELDS)}.") from None


def _recipe(_: Recipe, value: str) -> Recipe:
    offered = offered_recipes()
    if value in offered:
        return _safe(Recipe.load(offered[value]))
    try:
        return _safe(decode_recipe(value))
    except WorkbenchError as problem:
        raise WorkbenchError(
            f"{problem}; recipes offered by name: {', '.join(offered) or 'none'}."
        ) from problem


def _model(recipe: Recipe, value: str) -> Recipe:
    return _safe(recipe.with_model(value))


def _alpha(recipe: Recipe, value: str) -> Recipe:
    if value == "none":
        return recipe.with_alpha(None)
    try:
        return recipe.with_alpha(float(value))
    except ValueError:
        raise WorkbenchError('alpha is a number from 0 to 1, or "none".') from None


def _scheme(recipe: Recipe, value: str) -> Recipe:
    return recipe.with_scheme(value)  # type: ignore[arg-type] # which it judges


FIELDS: dict[str, Callable[[Recipe, str], Recipe]] = {
    "recipe": _recipe,
    "model": _model,
    "alpha": _alpha,
    "scheme": _scheme,
}


def _safe(recipe: Recipe) -> Recipe:
    """The recipe, unless it names a model that is not offered, or a file."""
    return safe_recipe(recipe, allowed_models(list(bundled)))


def _shown(text: str, most: int = MOST_SHOWN) -> str:
    """The text with every control character made visible, cut to `most` characters."""
    visible = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return visible if len(visible) <= most else f"{visible[:most]}…"
