"""Recipes that differ in alpha, bits and algorithms, measured on any executor."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from itertools import product

from workbench.compare import Comparison
from workbench.recipe import Recipe
from workbench.session.session import Session
from workbench.tune import sweep


def variants(
    recipe: Recipe,
    *,
    alphas: Iterable[float | None] | None = None,
    bits: Iterable[int] | None = None,
    algorithms: Iterable[Sequence[str]] | None = None,
) -> list[Recipe]:
    """`recipe` with every combination of these, what is not given staying as it is.

    `bits` are those of all weights; each of `algorithms` works on all layers, () being none.
    """
    made = [recipe] if alphas is None else [recipe.with_alpha(alpha) for alpha in alphas]
    widths = [None] if bits is None else list(bits)
    chains = [None] if algorithms is None else [tuple(chain) for chain in algorithms]
    return [
        one.with_weights(bits=width, algorithms=chain)
        for one, width, chain in product(made, widths, chains)
    ]


def sweep_recipes(
    recipes: Iterable[Recipe], executor: Executor | None = None
) -> list[tuple[Recipe, Comparison]]:
    """Compare what each recipe builds with its float model on held-out data.

    Here, one after the other, or on `executor`, whose workers need this package and the models
    (`workbench.tune.sweep`).
    """
    by_document = {recipe.to_json(): recipe for recipe in recipes}
    found = sweep(_measure, by_document, executor)
    return [(by_document[document], comparison) for document, comparison in found.items()]


def _measure(document: str) -> Comparison:
    session = Session(Recipe.from_json(document))
    try:
        return session.compare()
    finally:
        session.close()
