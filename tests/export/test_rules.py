"""What vLLM would refuse is refused before a byte is written."""

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.export import export
from workbench.quant import Calibration, QuantArgs, freeze, quantize

BATCH = {"input_ids": torch.arange(32).view(2, 16)}


def made(model, weights, activations=None, **how):
    quantize(model, weights, activations, **how)
    with torch.no_grad(), Calibration(model):
        model(**BATCH)
    freeze(model)
    return model


def group(dtype, size, symmetric=True):
    return QuantArgs(dtype=dtype, granularity="group", group_size=size, symmetric=symmetric)


def per_token(dtype):
    return QuantArgs(dtype=dtype, granularity="token", dynamic=True)


ACCEPTED = {
    "float": None,
    "W8A8 per token": ("int8", per_token("int8")),
    "W8A8 static": ("int8", "int8"),
    "W8A8 affine inputs": ("int8", QuantArgs(granularity="tensor", symmetric=False)),
    "W8A16": ("int8", None),
    "W4A16 per channel": (QuantArgs(dtype="int4"), None),
    "fp8": ("float8", per_token("float8")),
    "fp8 weights": ("float8", None),
}


@pytest.mark.parametrize("scheme", ACCEPTED.values(), ids=ACCEPTED)
def test_what_vllm_takes_is_written(tiny_llama, tmp_path, scheme):
    model = made(tiny_llama, *scheme) if scheme else tiny_llama
    done = export(model, tmp_path / "out", format="compressed-tensors")
    assert done.bytes > 0
    assert (tmp_path / "out" / "model.safetensors").is_file()


REFUSED = {
    "groups of 16": ((group("int4", 16), None, {}), r"q_proj has groups of 16 .* 32, 64, 128"),
    "affine int8": ((QuantArgs(symmetric=False), None, {}), "zero points at 4 bits only"),
    "affine W8A8": ((QuantArgs(symmetric=False), "int8", {}), "symmetric int8 weights"),
    "W4A8": ((group("int4", 16), per_token("int8"), {}), "by float inputs only"),
    "W3": ((QuantArgs(dtype="int3"), None, {}), "4 or 8 bits"),
    "one scale": ((QuantArgs(dtype="int4", granularity="tensor"), None, {}), "groups or channels"),
    "dynamic per tensor": (
        ("int8", QuantArgs(granularity="tensor", dynamic=True), {}),
        "statically per tensor or dynamically per token",
    ),
    "e5m2": (("float8_e5m2", None, {}), "compressed-tensors cannot say that"),
    "norms": (("int8", "int8", {"outputs": "int8"}), "norm"),
    "the embedding": (
        ("int8", None, {"include": ["*embed_tokens"]}),
        "model.embed_tokens is quantized; vLLM loads embeddings and the head in float",
    ),
    "q without k": (
        ("int8", None, {"include": "*q_proj"}),
        r"self_attn\.k_proj is in float, and .*q_proj is .* wants one scheme",
    ),
    "gate without up": (
        ("int8", None, {"exclude": "*up_proj"}),
        r"mlp\.up_proj is in float",
    ),
}


@pytest.mark.parametrize(("how", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_layer_and_the_rule_and_writes_nothing(
    tiny_llama, tmp_path, how, message
):
    weights, activations, options = how
    model = made(tiny_llama, weights, activations, **options)
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("kept")
    with pytest.raises(WorkbenchError, match=r"model\.\S+ ") as caught:
        export(model, out, format="compressed-tensors")
    assert caught.match(message)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_fused_layers_round_their_inputs_alike(tiny_llama, tmp_path):
    model = made(tiny_llama, "int8", "int8")
    model.model.layers[1].mlp.up_proj._buffers["input_scale"] *= 2
    with pytest.raises(WorkbenchError, match=r"layers\.1\.mlp\.up_proj rounds its inputs"):
        export(model, tmp_path / "out", format="compressed-tensors")


def test_what_no_config_describes_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="no config of transformers"):
        export(torch.nn.Sequential(torch.nn.Linear(4, 4)), tmp_path, format="compressed-tensors")


def test_an_unfrozen_layer_is_named(tiny_llama, tmp_path):
    quantize(tiny_llama, "int8")
    with pytest.raises(WorkbenchError, match="q_proj is quantized but not frozen"):
        export(tiny_llama, tmp_path / "out", format="compressed-tensors")
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_lists_those_there_are(tiny_llama, tmp_path):
    with pytest.raises(WorkbenchError, match=r"'tflite' is unknown; allowed: compressed-tensors"):
        export(tiny_llama, tmp_path, format="tflite")


@pytest.mark.parametrize(
    ("scheme", "bound"),
    [
        (("int8", per_token("int8")), 5e-3),  # it divides the absmax of a token by 127.5, we by 127
        (("int8", "int8"), 1e-5),
        ((QuantArgs(dtype="int4"), None), 1e-5),
    ],
    ids=["W8A8", "W8A8 static", "W4A16"],
)
def test_transformers_computes_the_same_from_it(tiny_llama, tmp_path, monkeypatch, scheme, bound):
    """By the compressed-tensors package, as for a person who has not imported this one."""
    pytest.importorskip("compressed_tensors")
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig
    from transformers.quantizers import auto

    claims = auto.AUTO_QUANTIZATION_CONFIG_MAPPING
    monkeypatch.setitem(claims, "compressed-tensors", CompressedTensorsConfig)
    model = made(tiny_llama, *scheme)
    export(model, tmp_path / "out", format="compressed-tensors")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        want, got = model(**BATCH).logits, theirs(**BATCH).logits
    assert (want - got).norm() / want.norm() < bound
