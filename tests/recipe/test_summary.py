"""What a recipe is called at a glance."""

import workbench as wb
from workbench.recipe import Recipe, summary


def test_each_choice_that_was_made_is_named() -> None:
    recipe = Recipe(model="pylm")
    assert summary(recipe) == "W8A8 O3 alpha 0.5"
    assert summary(recipe.with_scheme("o1").with_alpha(None)) == "W8A8 O1"
    weights_only = recipe.with_scheme("none").with_alpha(None)
    assert summary(weights_only) == "W8"
    assert summary(weights_only.with_quantization(weights=wb.QuantArgs(dtype="float8"))) == (
        "W8 float8_e4m3fn"
    )
    tuned = weights_only.with_weights(bits=4, algorithms=("awq", "gptq"))
    assert summary(tuned) == "W4 awq+gptq"
    assert summary(weights_only.with_quantization(bits={"*mlp*": 4})) == "W4/8"
    assert summary(weights_only.with_training(steps=40)) == "W8 40 steps of training"
