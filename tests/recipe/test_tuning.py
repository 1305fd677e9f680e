"""The fields that choose bits and algorithms: refusals, and the script that does the same."""

import ast
import json

import pytest
import torch

import workbench as wb
from workbench.recipe import Recipe

AUTO = {"weights": {"dtype": "int8", "granularity": "group", "symmetric": False}, "bits": "auto"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"quantization": {"bits": "auto"}}, r"a budget goes with bits=\"auto\""),
        (
            {"quantization": {"bits": {"*": 4}, "budget": {"kind": "bytes", "limit": 9}}},
            r"quantization: a budget goes with",
        ),
        (
            {"quantization": {"bits": {"*.q_proj": 5}}},
            "5 bits are no width.*allowed: 2, 3, 4, 6, 8",
        ),
        (
            {"quantization": {"bits": {"*": 4}, "weights": {"dtype": "float8"}}},
            "bits are of integers",
        ),
        (
            {"quantization": {"algorithms": {"*": ["gptk"]}}},
            "algorithm 'gptk' is unknown; allowed: awq, bias_correction, clip, gptq, hqq, mse, rtn",
        ),
        (
            {"quantization": {**AUTO, "budget": {"kind": "latency", "limit": 9}}},
            "a recipe has no times of layers",
        ),
        ({"quantization": {**AUTO, "budget": {"kind": "mean_bits", "limit": 0}}}, "limit is 0"),
        ({"quantization": {"trials": -1}}, "trials is -1"),
        ({"rotation": True}, "set smoothing to null, or rotation to false"),
    ],
)
def test_refusals(document, message):
    with pytest.raises(wb.WorkbenchError, match=message) as caught:
        Recipe.from_json(json.dumps(document))
    assert "\n" not in str(caught.value)


def test_with_weights_replaces_bits_and_algorithms():
    recipe = Recipe().with_weights(bits=4, algorithms=("awq", "gptq"))
    assert recipe.quantization.weights.dtype == "int4"
    assert recipe.quantization.algorithms == {"*": ("awq", "gptq")}
    assert recipe.with_weights(algorithms=()).quantization.algorithms == {}
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    "quantization",
    [
        {"bits": {"*.mlp.*": 4}, "algorithms": {"*.mlp.*": ["gptq"], "*": ["mse"]}},
        {**AUTO, "budget": {"kind": "mean_bits", "limit": 3.5}, "trials": 12},
    ],
    ids=["patterns", "auto"],
)
def test_the_script_builds_what_the_session_builds(quantization, tmp_path, monkeypatch):
    """Their frozen tensors are the same, number for number."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    recipe = Recipe.from_json(
        json.dumps(
            {
                "model": "pylm",
                "calibration": {"samples": 4, "length": 32, "batch_size": 2},
                "smoothing": None,
                "rotation": quantization.get("bits") == "auto",
                "quantization": {"activations": None, **quantization},
            }
        )
    )
    code = recipe.to_code()
    ast.parse(code)
    namespace: dict = {}
    exec(code.split("samples = ")[0], namespace)
    session = wb.Session(recipe)
    try:
        ours = session.freeze().state_dict()
    finally:
        session.close()
    theirs = namespace["model"].state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    bits = {layer.name: layer.bits for layer in session.plan.layers if layer.scheme != "float"}
    assert len(set(bits.values())) > 1
    if quantization.get("bits") == "auto":
        for kept in ("sensitivity", "allocations"):
            assert len(list((tmp_path / "cache" / kept).iterdir())) == 1
        sizes = {n: session.loaded.model.get_submodule(n).weight.numel() for n in bits}
        assert sum(bits[n] * sizes[n] for n in bits) / sum(sizes.values()) <= 3.5
