"""ONNX and OpenVINO files, run by their engines on other shapes than they were traced with."""

import pytest
import torch
from torch import nn

from workbench.export import export
from workbench.metrics import sqnr_db
from workbench.quant import Calibration, QuantArgs, freeze, quantize

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def ids(rows, columns):
    torch.manual_seed(rows)
    return torch.randint(1, 97, (rows, columns))


def batch(rows, columns):
    found = ids(rows, columns)
    mask = torch.ones_like(found)
    mask[0, columns // 2 :] = 0
    return {"input_ids": found, "attention_mask": mask}


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    return LlamaForCausalLM(config).eval()


def bert():
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
    )
    return BertModel(config, add_pooling_layer=False).eval()


def group(dtype, size=32, symmetric=True):
    return QuantArgs(dtype=dtype, granularity="group", group_size=size, symmetric=symmetric)


def per_token():
    return QuantArgs(granularity="token", dynamic=True)


def in_onnx_runtime(folder, inputs):
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    feed = {name: value.numpy() for name, value in inputs.items()}
    return torch.from_numpy(session.run(None, feed)[0])


def in_openvino(folder, inputs):
    openvino = pytest.importorskip("openvino")
    exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    compiled = openvino.Core().compile_model(folder / "openvino_model.xml", "CPU", exact)
    return torch.from_numpy(compiled({n: v.numpy() for n, v in inputs.items()})[0].copy())


RUN = {"onnx": in_onnx_runtime, "openvino": in_openvino}


def made(model, weights, activations=None, **how):
    if weights is not None:
        quantize(model, weights, activations, **how)
        with torch.no_grad(), Calibration(model):
            model(**batch(4, 16))
        freeze(model)
    return model


def agreement(model, folder, name):
    """SQNR in dB of the engine's output beside ours, on another batch and length."""
    inputs = batch(3, 11)
    with torch.no_grad():
        want = model(**inputs)[0]
    return sqnr_db(want, RUN[name](folder, inputs))


# Exact but for the order of sums, after which a value may round to the next step.
SCHEMES = {
    "float": ((None,), 100),
    "W8A8 static": (("int8", "int8"), 40),
    "W8A8 static affine": (("int8", QuantArgs(granularity="tensor", symmetric=False)), 40),
    "W8A8 per token": (("int8", per_token()), 40),
    "W8A16": (("int8",), 100),
    "W4A16": ((group("int4"),), 100),
    "W4A16 affine": ((group("int4", symmetric=False),), 100),
    "W4A16 per channel": ((QuantArgs(dtype="int4"),), 100),
    "W4A8": ((group("int4"), per_token()), 40),
    "W8 in groups": ((group("int8", 64),), 100),
}


@pytest.mark.parametrize("name", RUN)
@pytest.mark.parametrize(("scheme", "floor"), SCHEMES.values(), ids=SCHEMES)
def test_the_engine_computes_what_the_layers_do(tmp_path, name, scheme, floor):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 32, bias=False))
    if scheme[0] is not None:
        quantize(model, *scheme)
        with torch.no_grad(), Calibration(model):
            model(torch.randn(64, 64))
        freeze(model)
    export(model, tmp_path / "out", format=name, example={"input": torch.randn(4, 3, 64)})
    x = torch.randn(7, 5, 64)
    with torch.no_grad():
        found = sqnr_db(model(x), RUN[name](tmp_path / "out", {"input": x}))
    assert found > floor
