"""What a session makes of the smoothing section."""

import pytest

from workbench.models import LoadedModel
from workbench.observe import observe
from workbench.recipe import Recipe, SmoothingSpec
from workbench.session.build import alphas_of
from workbench.smooth import search_alpha


@pytest.fixture
def loaded(tiny_llama):
    return LoadedModel("tiny", tiny_llama, None, "causal-lm", "", None)


def data():
    import torch

    g = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(0, 97, (2, 16), generator=g)} for _ in range(2)]


def test_a_number_is_taken_as_it_is(loaded):
    recipe = Recipe(smoothing=SmoothingSpec(alpha=0.3, overrides={"*.mlp.*": None}))
    assert alphas_of(loaded, observe(loaded.model, data()), recipe, data()) == (
        0.3,
        {"*.mlp.*": None},
    )


def test_auto_searches_and_overrides_come_before_what_was_found(loaded):
    statistics = observe(loaded.model, data())
    recipe = Recipe(smoothing=SmoothingSpec(alpha="auto", overrides={"*.mlp.down_proj": 0.3}))
    alpha, overrides = alphas_of(loaded, statistics, recipe, data())
    assert alpha is None
    found = search_alpha(loaded.model, statistics, data()).chosen
    expected = {n: a for n, a in found.items() if "down_proj" not in n} | {"*.mlp.down_proj": 0.3}
    assert overrides == expected
