"""Make the working model that a recipe asks for, beside the float model it shares tensors with."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workbench.models import LoadedModel
from workbench.observe import Statistics
from workbench.progress import track
from workbench.quant import Calibration, quantize
from workbench.recipe import Recipe
from workbench.recipe.code import EVALUATION_SAMPLES, activations_of
from workbench.smooth import Smoothing, smooth


def calibration_batches(loaded: LoadedModel, recipe: Recipe) -> list[dict[str, Tensor]]:
    """The batches that the calibration section of `recipe` names."""
    spec = recipe.calibration
    return loaded.batches(
        "calibration",
        samples=spec.samples,
        length=spec.length,
        batch_size=spec.batch_size,
        text=spec.text,
        seed=recipe.seed,
    )


def evaluation_batches(loaded: LoadedModel, recipe: Recipe) -> list[dict[str, Tensor]]:
    """The pinned held-out batches that a session judges by: enough for a figure, quick to run."""
    return loaded.batches("evaluation", samples=EVALUATION_SAMPLES, seed=recipe.seed)


def build(
    loaded: LoadedModel,
    statistics: Statistics,
    recipe: Recipe,
    batches: Iterable[Mapping[str, Any]],
) -> tuple[nn.Module, Smoothing | None]:
    """Copy the float model, smooth, quantize and calibrate the copy; it is ready to freeze."""
    model = loaded.copy()
    quantization = recipe.quantization
    smoothing = None
    if recipe.smoothing is not None:
        smoothing = smooth(
            model, statistics, recipe.smoothing.alphas(), exclude=quantization.exclude
        )
    quantize(
        model,
        weights=quantization.weights,
        activations=activations_of(recipe),
        include=quantization.include,
        exclude=quantization.exclude,
    )
    if not quantization.activations.dynamic:
        momentum = recipe.calibration.momentum
        with torch.no_grad(), Calibration(model, momentum=momentum):
            for batch in track(list(batches), "calibrating"):
                model(**batch)
    return model, smoothing
