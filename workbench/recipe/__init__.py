"""The recipe (intent) and the plan (what came of it, layer by layer)."""

from workbench.recipe.alphas import group_alphas, with_group_alpha, without_group_alpha
from workbench.recipe.bits import layer_bits, with_layer_bits
from workbench.recipe.diff import Change, diff
from workbench.recipe.link import decode_recipe, encode_recipe
from workbench.recipe.numbers import Numbers
from workbench.recipe.plan import LayerPlan, Plan
from workbench.recipe.spec import (
    CalibrationSpec,
    QuantizationSpec,
    Recipe,
    Scheme,
    SmoothingSpec,
    TrainingSpec,
)
from workbench.recipe.summary import summary

__all__ = [
    "CalibrationSpec",
    "Change",
    "LayerPlan",
    "Numbers",
    "Plan",
    "QuantizationSpec",
    "Recipe",
    "Scheme",
    "SmoothingSpec",
    "TrainingSpec",
    "decode_recipe",
    "diff",
    "encode_recipe",
    "group_alphas",
    "layer_bits",
    "summary",
    "with_group_alpha",
    "with_layer_bits",
    "without_group_alpha",
]
