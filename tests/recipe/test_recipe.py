"""The recipe document: round trips, refusals, digests, code."""

import ast
import inspect
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel
from workbench.quant import QuantArgs
from workbench.recipe import CalibrationSpec, QuantizationSpec, Recipe, SmoothingSpec

recipes = st.builds(
    Recipe,
    model=st.sampled_from(["pylm", "minilm", "org/name"]),
    seed=st.integers(0, 9),
    calibration=st.builds(
        CalibrationSpec,
        samples=st.integers(1, 99),
        observer=st.sampled_from(["max", "momentum"]),
        momentum=st.floats(0, 0.99),
        text=st.none() | st.text(min_size=1, max_size=9),
    ),
    smoothing=st.none()
    | st.builds(
        SmoothingSpec,
        alpha=st.floats(0, 1) | st.just("auto"),
        overrides=st.dictionaries(
            st.text(min_size=1, max_size=5), st.floats(0, 1) | st.none(), max_size=2
        ),
    ),
    quantization=st.builds(
        QuantizationSpec,
        activations=st.sampled_from(
            [QuantArgs(granularity="tensor"), QuantArgs(granularity="token", dynamic=True)]
        ),
    ),
)


@given(recipes)
@settings(max_examples=60, deadline=None)
def test_a_recipe_survives_its_json_and_keeps_its_digest(recipe):
    back = Recipe.from_json(recipe.to_json())
    assert back == recipe
    assert back.digest() == recipe.digest()


@given(recipes)
@settings(max_examples=60, deadline=None)
def test_the_code_of_any_recipe_is_python_that_imports_no_widget(recipe):
    tree = ast.parse(recipe.to_code())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    imported = {alias.name for node in imports for alias in node.names}
    assert imported == {"torch", "workbench"}


def test_a_field_more_leaves_digests_as_they_are():
    class Later(Recipe):
        idea: float = 0.5

    assert Later(seed=3).digest() == Recipe(seed=3).digest() != Later(seed=3, idea=0.6).digest()


@given(recipes, recipes)
@settings(max_examples=60, deadline=None)
def test_digests_tell_recipes_apart(one, other):
    assert (one.digest() == other.digest()) == (one == other)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"modle": "pylm"}, "unknown field 'modle'"),
        ({"smoothing": {"beta": 1}}, r"unknown field 'smoothing\.beta'"),
        ({"version": 2}, "version 2 cannot be read; allowed: 1"),
        ({"smoothing": {"alpha": 1.5}}, r"smoothing\.alpha is 1\.5"),
        ({"smoothing": {"alpha": "much"}}, r"smoothing\.alpha is 'much'"),
        ({"calibration": {"samples": 0}}, r"calibration\.samples is 0"),
        ({"quantization": {"weights": {"dtype": "int9"}}}, "unknown dtype 'int9'; allowed: .*int8"),
        ({"calibration": {"text": "a", "dataset": "b"}}, "text and dataset exclude each other"),
        ({"calibration": {"text_sha256": "0" * 64}}, "text_sha256 is of a text, and there is none"),
        ({"calibration": {"text": "a", "text_sha256": "abc"}}, r"text_sha256 is 'abc'"),
        ({"calibration": {"column": "body"}}, "subset and column are of a dataset"),
        ([], "valid"),
    ],
)
def test_bad_documents_get_one_sentence(document, message):
    with pytest.raises(WorkbenchError, match=message) as caught:
        Recipe.from_json(json.dumps(document))
    assert "\n" not in str(caught.value)


def test_the_source_of_calibration_is_printed_as_arguments_of_batches():
    assert "text" not in Recipe().to_code()
    file = Recipe().with_calibration(text="a.txt", text_sha256="0" * 64)
    assert f"text='a.txt', text_sha256='{'0' * 64}')" in file.to_code()
    named = Recipe().with_calibration(dataset="owner/name", subset="en")
    assert "dataset='owner/name', subset='en', column='text')" in named.to_code()
    known = inspect.signature(LoadedModel.batches).parameters
    assert set(CalibrationSpec().model_dump()) - set(known) == {"observer", "momentum"}


def test_not_a_number_is_refused():
    with pytest.raises(WorkbenchError, match=r"smoothing\.alpha is nan"):
        Recipe.from_json('{"smoothing": {"alpha": NaN}}')
    with pytest.raises(WorkbenchError, match="alpha"):
        Recipe().with_alpha(float("nan"))


def test_what_is_not_json_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="not JSON"):
        Recipe.from_json("{")
    with pytest.raises(WorkbenchError, match="cannot be read"):
        Recipe.load(tmp_path / "none.json")


def test_files_round_trip(tmp_path):
    recipe = Recipe().with_alpha(0.7).with_scheme("o1")
    recipe.save(tmp_path / "r.json")
    assert Recipe.load(tmp_path / "r.json") == recipe


def test_schemes_are_the_papers():
    o1, o3 = Recipe().with_scheme("o1"), Recipe().with_scheme("o3")
    assert (o1.scheme, o3.scheme) == ("o1", "o3")
    assert o1.quantization.activations.granularity == "token"
    assert o1.quantization.activations.dynamic
    assert o3.quantization.activations.granularity == "tensor"
    assert not o3.quantization.activations.dynamic
    assert Recipe().with_scheme("o2").scheme == "o2"
    assert Recipe().with_scheme("none").quantization.activations is None
    assert Recipe().with_scheme("none").scheme == "none"
    with pytest.raises(WorkbenchError, match="allowed: o1, o2, o3, none"):
        Recipe().with_scheme("o4")


def test_no_alpha_is_no_smoothing():
    recipe = Recipe().with_alpha(None)
    assert recipe.smoothing is None
    assert "wb.smooth" not in recipe.to_code()
    assert recipe.with_alpha(0.4).smoothing.alpha == 0.4


def test_the_script_of_a_recipe_with_training_does_what_the_recipe_says(tmp_path):
    """Run the printed script, sizes cut down, and look at what it saved."""
    recipe = Recipe.from_json(
        json.dumps(
            {
                "model": "pylm",
                "calibration": {"samples": 4, "length": 16, "batch_size": 2},
                "smoothing": None,
                "quantization": {
                    "weights": {"dtype": "int4", "granularity": "group", "group_size": 64},
                    "activations": None,
                    "optimizer": "mse",
                },
                "training": {"steps": 2},
            }
        )
    )
    code = recipe.to_code().replace("samples=64", "samples=2")
    assert "Calibration" not in code, "weights only: there is nothing to calibrate"
    folder = tmp_path / "out"
    exec(code.replace('"out"', repr(str(folder))), {})
    loaded = wb.load(folder)
    layer = loaded.model.model.layers[0].mlp.up_proj
    assert isinstance(layer, wb.QLinear)
    assert layer.state_dict()["weight_packed"].shape == (1024, 384 * 4 // 32)
    assert layer.weight_scale.shape == (1024, 384 // 64)


def test_a_recipe_can_ask_for_a_search():
    recipe = Recipe(smoothing=SmoothingSpec(alpha="auto", overrides={"*.mlp.*": 0.8}))
    script = recipe.to_code()
    assert "search = wb.search_alpha(" in script
    assert "alpha=None, overrides=search.with_overrides({'*.mlp.*': 0.8})" in script
    assert "search_alpha" not in recipe.with_alpha(0.5).to_code()
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize("scheme", ["o1", "o2", "o3"])
def test_the_plan_names_the_scheme_of_the_recipe(scheme):
    args = Recipe().with_scheme(scheme).quantization.activations
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    wb.quantize(model, "int8", args)
    (layer,) = wb.Plan.resolve(Recipe(), model, None).layers
    assert layer.scheme.startswith(scheme)


@pytest.mark.parametrize("scheme", ["o1", "o2", "o3"])
def test_schemes_round_as_the_paper_says(scheme):
    """SmoothQuant's table 2: O1 a step a token, O2 one a tensor, O3 one from calibration."""
    args = Recipe().with_scheme(scheme).quantization.activations
    g = torch.Generator().manual_seed(0)
    seen, new = 3 * torch.randn(5, 8, generator=g), torch.randn(5, 8, generator=g)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    weight, bias = (p.detach().clone() for p in model.parameters())
    wb.quantize(model, "int8", args)
    with torch.no_grad(), wb.Calibration(model):
        model(seen)
    wb.freeze(model)
    absmax = {
        "o1": new.abs().amax(1, keepdim=True),
        "o2": new.abs().max(),
        "o3": seen.abs().max(),
    }[scheme]
    step, steps = absmax / 127, weight.abs().amax(1, keepdim=True) / 127
    x = (new / step).round().clamp(-127, 127) * step
    w = (weight / steps).round() * steps
    with torch.no_grad():
        torch.testing.assert_close(model(new), x @ w.T + bias, rtol=1e-5, atol=1e-5)
