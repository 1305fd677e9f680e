"""Make the working model that a recipe asks for, beside the float model it shares tensors with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.models import LoadedModel
from workbench.observe import Statistics
from workbench.progress import track
from workbench.quant import Calibration
from workbench.recipe import Recipe
from workbench.recipe.code import BY_SENTENCE, EVALUATION_SAMPLES, activations_of
from workbench.recipe.numbers import Numbers, numbers_of
from workbench.session.bits import bits_of
from workbench.smooth import Smoothing, search_alpha, smooth
from workbench.train import TrainingCurve, Watch, finetune
from workbench.tune import quantize_mixed, rotate, tune


@dataclass(frozen=True)
class Built:
    """A working model, ready to freeze, and what smoothing, tuning and training tell of it."""

    model: nn.Module
    smoothing: Smoothing | None
    numbers: dict[str, Numbers]
    curve: TrainingCurve | None


def calibration_batches(loaded: LoadedModel, recipe: Recipe) -> list[dict[str, Tensor]]:
    """The batches that the calibration section of `recipe` names."""
    spec = recipe.calibration
    return loaded.batches(
        "calibration",
        samples=spec.samples,
        length=spec.length,
        batch_size=spec.batch_size,
        seed=recipe.seed,
        **spec.source,
    )


def evaluation_batches(
    loaded: LoadedModel, recipe: Recipe, samples: int | None = None
) -> list[dict[str, Tensor]]:
    """The held-out batches that a session judges by: enough for a figure, quick to run.

    They are pinned, or pictures beside those that calibrate; `samples` of them if given.
    """
    if samples is None and loaded.kind not in BY_SENTENCE:
        samples = EVALUATION_SAMPLES
    pictures = recipe.calibration.images
    own: dict[str, Any] = {} if pictures is None else {"images": pictures}
    return loaded.batches("evaluation", samples=samples, seed=recipe.seed, **own)


def alphas_of(
    loaded: LoadedModel,
    statistics: Statistics,
    recipe: Recipe,
    batches: Sequence[dict[str, Tensor]],
) -> tuple[float | None, dict[str, float | None]]:
    """The alpha for all inputs and the overrides, searched first where the recipe asks for it."""
    spec = recipe.smoothing
    assert spec is not None
    if spec.alpha != "auto":
        return spec.alpha, spec.overrides
    search = search_alpha(
        loaded.model,
        statistics,
        batches,
        weights=recipe.quantization.weights,
        activations=activations_of(recipe),
        exclude=recipe.quantization.exclude,
    )
    return None, search.with_overrides(spec.overrides)


def smoothed(
    loaded: LoadedModel,
    statistics: Statistics,
    recipe: Recipe,
    batches: Sequence[dict[str, Tensor]],
) -> tuple[nn.Module, Smoothing | None]:
    """A copy of the float model, rotated and smoothed as asked."""
    model = loaded.copy()
    if recipe.rotation:
        rotate(model, batches[0])
    if recipe.smoothing is None:
        return model, None
    alpha, overrides = alphas_of(loaded, statistics, recipe, batches)
    exclude = recipe.quantization.exclude
    return model, smooth(model, statistics, alpha, overrides=overrides, exclude=exclude)


def build(
    loaded: LoadedModel,
    statistics: Statistics,
    recipe: Recipe,
    batches: Sequence[dict[str, Tensor]],
    watch: Watch | None = None,
) -> Built:
    """Copy the float model; rotate, smooth, quantize, tune, calibrate and train as asked.

    `watch` is told the losses of training while it goes on.
    """
    model, smoothing = smoothed(loaded, statistics, recipe, batches)
    quantization = recipe.quantization
    bits, allocation = bits_of(model, recipe, batches)
    quantize_mixed(
        model,
        bits,
        weights=quantization.weights,
        activations=activations_of(recipe),
        optimizer=quantization.optimizer,
        include=quantization.include,
        exclude=quantization.exclude,
    )
    chains = quantization.algorithms
    tuned = tune(model, batches, chains) if chains else []
    if quantization.activations is not None and not quantization.activations.dynamic:
        momentum = recipe.calibration.momentum
        with torch.no_grad(), Calibration(model, momentum=momentum):
            for batch in track(batches, "calibrating"):
                model(**batch)
    curve = None
    if recipe.training is not None:
        curve = finetune(
            model,
            batches,
            steps=recipe.training.steps,
            learning_rate=recipe.training.learning_rate,
            teacher=loaded.model if recipe.training.distil else None,
            seed=recipe.seed,
            held_out=recipe.training.held_out,
            watch=watch,
        )
    return Built(model, smoothing, numbers_of(allocation, tuned), curve)
