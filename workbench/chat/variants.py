"""A model and what recipes make of it, sharing every tensor that no recipe changes."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.session import Session

WEIGHTS_ONLY = Recipe().with_alpha(None).with_scheme("none")  # int8, the least harm for a chat


def variants(model: str, recipes: Mapping[str, Recipe] | None) -> tuple[Any, dict[str, nn.Module]]:
    """The tokenizer of `model`, and the model under its own name with a frozen one per recipe.

    Without any recipe in `recipes` int8 weights with float activations stand in; None asks for the
    model alone. A recipe's own `model` is not looked at. Raises WorkbenchError where the model is
    no causal language model.
    """
    session = Session(Recipe(model=model))
    try:
        loaded = session.load()
        if loaded.kind != "causal-lm":
            raise WorkbenchError(
                f"{loaded.name} ({loaded.kind}) cannot chat; only language models chat."
            )
        found: dict[str, nn.Module] = {"original": loaded.model}
        if recipes is not None:
            for name, recipe in (dict(recipes) or {"int8": WEIGHTS_ONLY}).items():
                session.update(recipe.with_model(model))
                found[name] = session.freeze()
    finally:
        session.close()
    return loaded.tokenizer, found
