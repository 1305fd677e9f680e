"""What lies on disk, read by the compressed-tensors library itself."""

import json

import pytest
import torch
from safetensors.torch import load_file

from workbench.models import load_into, save
from workbench.models.formats import formats
from workbench.quant import Calibration, QModule, QuantArgs, freeze, quantize

peer = pytest.importorskip("compressed_tensors")

BATCH = {"input_ids": torch.arange(32).view(2, 16)}


def made(model, weights, activations=None, **how):
    quantize(model, weights, activations, **how)
    with torch.no_grad(), Calibration(model):
        model(**BATCH)
    freeze(model)
    return model


def per_token(dtype):
    return QuantArgs(dtype=dtype, granularity="token", dynamic=True)


def group(dtype, symmetric):
    return QuantArgs(dtype=dtype, granularity="group", group_size=16, symmetric=symmetric)


SCHEMES = {
    "W8A8": ("int8", per_token("int8"), "int-quantized"),
    "W8A8 static": ("int8", "int8", "int-quantized"),
    "W8A8 affine": (
        QuantArgs(symmetric=False),
        QuantArgs(granularity="tensor", symmetric=False),
        "int-quantized",
    ),
    "W8A16": ("int8", None, "pack-quantized"),
    "W8A16 affine": (QuantArgs(symmetric=False), None, "pack-quantized"),
    "W4A16": (group("int4", True), None, "pack-quantized"),
    "W4A16 affine": (group("int4", False), None, "pack-quantized"),
    "W4A8": (group("int4", True), per_token("int8"), "pack-quantized"),
    "W3A16": (group("int3", True), None, "pack-quantized"),
    "W2A16": (group("int2", True), None, "pack-quantized"),
    "W6A16 per channel": (QuantArgs(dtype="int6", symmetric=False), None, "pack-quantized"),
    "W4A16 per tensor": (QuantArgs(dtype="int4", granularity="tensor"), None, "pack-quantized"),
    "fp8": ("float8", per_token("float8"), "float-quantized"),
    "fp8 weights": ("float8", None, "naive-quantized"),
}


@pytest.mark.parametrize(("weights", "activations", "form"), SCHEMES.values(), ids=SCHEMES)
def test_the_library_decompresses_what_we_compute_with(
    tiny_llama, tmp_path, weights, activations, form
):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    model = made(tiny_llama, weights, activations)
    save(model, tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert (said["quant_method"], said["format"]) == ("compressed-tensors", form)
    assert said["ignore"] == ["lm_head"]
    tensors = load_file(tmp_path / "model.safetensors")
    config = QuantizationConfig.model_validate(said)
    seen = 0
    for scheme in config.config_groups.values():
        compressor = BaseCompressor.get_value_from_registry(scheme.format)
        for name in scheme.targets:
            starts = f"{name}."
            local = {k.removeprefix(starts): t for k, t in tensors.items() if k.startswith(starts)}
            assert set(compressor.compression_param_names(scheme)) <= set(local)
            weight = compressor.decompress(local, scheme)["weight"]
            assert torch.equal(weight, model.get_submodule(name).weight.dequantize())
            seen += 1
    assert seen == sum(isinstance(module, QModule) for module in model.modules()) == 14


@pytest.mark.parametrize(
    ("scheme", "bound"),
    [
        ("W8A16", 1e-5),
        ("W4A16", 1e-5),
        ("W4A16 affine", 1e-5),
        ("fp8 weights", 1e-5),
        ("W8A8", 5e-3),  # it divides the absmax of a token by 127.5, we by 127
    ],
)
def test_transformers_own_loader_computes_the_same(
    tiny_llama, tmp_path, monkeypatch, scheme, bound
):
    """As for a person who has not imported this package, which would claim what it wrote."""
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig
    from transformers.quantizers import auto

    claims = auto.AUTO_QUANTIZATION_CONFIG_MAPPING
    monkeypatch.setitem(claims, "compressed-tensors", CompressedTensorsConfig)
    model = made(tiny_llama, *SCHEMES[scheme][:2])
    save(model, tmp_path)
    # Left compressed, transformers 5.23 expects zero points that are not packed.
    dense = {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    how = dense if "affine" in scheme else {}
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, **how)
    assert type(theirs.model.layers[0].mlp.up_proj) is torch.nn.Linear
    with torch.no_grad():
        want, got = model(**BATCH).logits, theirs(**BATCH).logits
    assert (want - got).norm() / want.norm() < bound


def test_the_golden_vector_of_the_published_layout(tiny_llama, tmp_path):
    model = made(tiny_llama, QuantArgs(dtype="int4"))
    module = model.model.layers[0].mlp.up_proj
    module.hold_panels(False, 4)
    wanted = torch.tensor([-8, -7, 0, 1, 2, 7, -1, 3])
    for index, value in enumerate(wanted.tolist()):  # write the nibbles by hand, lowest first
        word = int(module.weight_packed[0, 0]) & 0xFFFFFFFF
        word = word & ~(0xF << 4 * index) | (value + 8) << 4 * index
        module.weight_packed[0, 0] = word - (word >> 31 << 32)
    assert torch.equal(module.weight.integers()[0, :8].long(), wanted)
    save(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert tensors["model.layers.0.mlp.up_proj.weight_packed"][0, 0] == -1208313840


def test_mixed_schemes_are_one_group_each(tiny_llama, tmp_path):
    quantize(tiny_llama, "int8", per_token("int8"), include="*self_attn*")
    made(tiny_llama, group("int4", False), include="*mlp*")
    save(tiny_llama, tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert said["format"] == "mixed-precision"
    found = {g["format"]: len(g["targets"]) for g in said["config_groups"].values()}
    assert found == {"int-quantized": 8, "pack-quantized": 6}


BEYOND = {
    "e5m2": ("float8_e5m2", None, {}),
    "fp8 inputs of integers": (group("int4", True), per_token("float8"), {}),
    "one zero point for all": (
        QuantArgs(dtype="int4", granularity="tensor", symmetric=False),
        None,
        {},
    ),
    "fractional zero points": (group("int2", False), None, {}),
    "outputs of norms": ("int8", "int8", {"outputs": "int8"}),
    "a tied weight": ("int8", None, {"include": ["*embed_tokens", "lm_head"]}),
}


@pytest.mark.parametrize(("weights", "activations", "how"), BEYOND.values(), ids=BEYOND)
def test_what_the_format_cannot_say_is_ours(tiny_llama, tmp_path, weights, activations, how):
    save(made(tiny_llama, weights, activations, **how), tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert said["quant_method"] == "workbench"
    assert said["manifest"]["format_version"] == 2


def test_formats_are_asked_the_most_particular_first():
    assert list(formats)[-1] == "workbench"


@pytest.mark.parametrize("rows", [1, 7, 8, 9])
def test_zero_points_of_few_rows_and_several_groups(tmp_path, rows):
    """Eight rows of zero points fill one word, and a column of one word is a layout of its own."""
    torch.manual_seed(0)
    model, x = torch.nn.Sequential(torch.nn.Linear(64, rows)), torch.randn(3, 64)
    quantize(model, group("int4", False))
    freeze(model)
    save(model, tmp_path)
    fresh = load_into(torch.nn.Sequential(torch.nn.Linear(64, rows)), tmp_path)
    assert torch.equal(fresh(x), model(x))
