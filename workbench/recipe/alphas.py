"""Alpha input by input: what a recipe gives each, and the same recipe with another for one."""

from collections.abc import Mapping, Sequence

from workbench.errors import WorkbenchError
from workbench.recipe.spec import Recipe
from workbench.smooth.alphas import matches

Readers = Mapping[str, Sequence[str]]
"""The layers that read each input, by its name."""


def group_alphas(recipe: Recipe, readers: Readers) -> dict[str, float | None]:
    """The alpha of each input, None for one that is not smoothed.

    Raises WorkbenchError for an alpha that is still to be found ("auto").
    """
    spec = recipe.smoothing
    if spec is None:
        return dict.fromkeys(readers)
    found: dict[str, float | None] = {}
    for name, linears in readers.items():
        given = [a for p, a in spec.overrides.items() if matches(name, linears, p)]
        if not given and spec.alpha == "auto":
            raise WorkbenchError('the alpha of this recipe is "auto": it is found when it is built')
        found[name] = given[0] if given else spec.alpha  # type: ignore[assignment]
    return found


def with_group_alpha(recipe: Recipe, readers: Readers, group: str, alpha: float | None) -> Recipe:
    """The same recipe with `alpha` for one input; what other inputs have stays."""
    spec, others = _without(recipe, readers, group)
    return recipe.with_alphas(spec, {**others, group: alpha})


def without_group_alpha(recipe: Recipe, readers: Readers, group: str) -> Recipe:
    """The same recipe with the common alpha for one input too."""
    return recipe.with_alphas(*_without(recipe, readers, group))


def _without(
    recipe: Recipe, readers: Readers, group: str
) -> tuple[float | str, dict[str, float | None]]:
    """The common alpha, and overrides that no longer reach `group`, spelled out where needed."""
    if recipe.smoothing is None:
        raise WorkbenchError("the recipe does not smooth: switch smoothing on first")
    if not readers:
        raise WorkbenchError("no input was observed yet: observe the model first")
    if group not in readers:
        raise WorkbenchError(f"no input {group!r}; choose one of: {', '.join(readers)}")
    kept: dict[str, float | None] = {}
    for pattern, alpha in recipe.smoothing.overrides.items():
        hit = [name for name, linears in readers.items() if matches(name, linears, pattern)]
        if group in hit:
            kept |= {name: alpha for name in hit if name != group}
        else:
            kept[pattern] = alpha
    return recipe.smoothing.alpha, kept
