"""The bits of each layer that a recipe asks for."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from workbench.quant import Optimizer, QuantArgs
from workbench.quant.optimizers import optimizer_named
from workbench.recipe import Recipe
from workbench.session.keys import content_digest, data_digest, result_key
from workbench.tune import Allocation, Sensitivity, cached, refine, sensitivity, widths


def bits_of(
    model: nn.Module, recipe: Recipe, batches: Sequence[dict[str, Tensor]]
) -> tuple[Mapping[str, int | QuantArgs], Allocation | None]:
    """What `quantize_mixed` shall mix: the recipe's own bits, or the best within its budget and
    how they were found.

    The latter are kept in the cache folder, and so are the sensitivities behind them.
    """
    quantization = recipe.quantization
    if quantization.bits != "auto":
        return quantization.bits, None
    budget = quantization.budget
    assert budget is not None

    def find() -> Allocation:
        return refine(
            model,
            batches,
            sensitivity_of(model, recipe, batches),
            budget,
            optimizer=optimizer_of(recipe),
            trials=quantization.trials,
        )

    key = _key(model, recipe, batches, f"{budget} {quantization.trials}")
    allocation = cached(Allocation, cache_folder() / "allocations" / f"{key}.json", find)
    return allocation.weights, allocation


def sensitivity_of(
    model: nn.Module, recipe: Recipe, batches: Sequence[dict[str, Tensor]]
) -> Sensitivity:
    """Damage to `model`, smoothed already; kept in the cache folder, for every budget."""
    quantization = recipe.quantization

    def measure() -> Sensitivity:
        return sensitivity(
            model,
            batches,
            widths(quantization.weights),
            optimizer=optimizer_of(recipe),
            include=quantization.include,
            exclude=quantization.exclude,
            seed=recipe.seed,
        )

    key = _key(model, recipe, batches)
    return cached(Sensitivity, cache_folder() / "sensitivity" / f"{key}.json", measure)


def optimizer_of(recipe: Recipe) -> Optimizer | None:
    """What finds the scales of weights; None for what `quantize` would take."""
    name = recipe.quantization.optimizer
    return optimizer_named(name) if name else None


def _key(
    model: nn.Module, recipe: Recipe, batches: Sequence[dict[str, Tensor]], more: str = ""
) -> str:
    """A hash of all that decides on what roundings do to `model`, and of what else is asked for."""
    # Only these fields decide; the model, as rotated and smoothed, stands for all others.
    decides = {"weights", "optimizer", "include", "exclude"}
    fields = recipe.quantization.model_dump_json(include=decides)
    digest = hashlib.sha256(f"{fields} {recipe.seed} {more}".encode()).hexdigest()[:16]
    return result_key(digest, content_digest(model), data_digest(batches))


def cache_folder() -> Path:
    """Where results that cost time are kept: $WORKBENCH_CACHE, or the user's folder for caches."""
    named = os.environ.get("WORKBENCH_CACHE")
    if named:
        return Path(named)
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "quantization-workbench"
