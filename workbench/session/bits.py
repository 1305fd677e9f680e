"""The bits of each layer that a recipe asks for."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from workbench.quant import QuantArgs
from workbench.quant.optimizers import optimizer_named
from workbench.recipe import Recipe
from workbench.session.keys import content_digest, data_digest, result_key
from workbench.tune import Allocation, Sensitivity, allocate, cached, sensitivity, widths


def bits_of(
    model: nn.Module, recipe: Recipe, batches: Sequence[dict[str, Tensor]]
) -> tuple[Mapping[str, int | QuantArgs], Allocation | None]:
    """What `quantize_mixed` shall mix: the recipe's own bits, or the best within its budget and
    how they were found.

    The sensitivities behind the latter are kept in the cache folder, for every budget.
    """
    quantization = recipe.quantization
    if quantization.bits != "auto":
        return quantization.bits, None
    assert quantization.budget is not None
    allocation = allocate(sensitivity_of(model, recipe, batches), quantization.budget)
    return allocation.weights, allocation


def sensitivity_of(
    model: nn.Module, recipe: Recipe, batches: Sequence[dict[str, Tensor]]
) -> Sensitivity:
    """Damage to `model`, smoothed already; kept in the cache folder, for every budget."""
    quantization = recipe.quantization
    optimizer = quantization.optimizer

    def measure() -> Sensitivity:
        return sensitivity(
            model,
            batches,
            widths(quantization.weights),
            optimizer=optimizer_named(optimizer) if optimizer else None,
            include=quantization.include,
            exclude=quantization.exclude,
            seed=recipe.seed,
        )

    # Only these fields decide; the model, as rotated and smoothed, stands for all others.
    fields = quantization.model_dump_json(include={"weights", "optimizer", "include", "exclude"})
    digest = hashlib.sha256(f"{fields} {recipe.seed}".encode()).hexdigest()[:16]
    key = result_key(digest, content_digest(model), data_digest(batches))
    return cached(cache_folder() / "sensitivity" / f"{key}.json", measure)


def cache_folder() -> Path:
    """Where results that cost time are kept: $WORKBENCH_CACHE, or the user's folder for caches."""
    named = os.environ.get("WORKBENCH_CACHE")
    if named:
        return Path(named)
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "quantization-workbench"
