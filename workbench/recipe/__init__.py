"""The recipe (intent) and the plan (what came of it, layer by layer)."""

from workbench.recipe.numbers import Numbers
from workbench.recipe.plan import LayerPlan, Plan
from workbench.recipe.spec import (
    CalibrationSpec,
    QuantizationSpec,
    Recipe,
    Scheme,
    SmoothingSpec,
)

__all__ = [
    "CalibrationSpec",
    "LayerPlan",
    "Numbers",
    "Plan",
    "QuantizationSpec",
    "Recipe",
    "Scheme",
    "SmoothingSpec",
]
