"""What `save` wrote computes the same bits again, whatever the dtype, the scheme and the module."""

import itertools
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from workbench.errors import WorkbenchError
from workbench.models import load, load_into, save
from workbench.quant import Calibration, QModule, QuantArgs, freeze, quantize
from workbench.quant.qtypes import qtypes

TOKEN = QuantArgs(granularity="token", dynamic=True)
BATCH = {"input_ids": torch.arange(32).view(2, 16)}


class FewExperts(nn.Module):
    """Experts in one tensor, as transformers keeps them; every token goes to all."""

    def __init__(self):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(2, 24, 16))
        self.down_proj = nn.Parameter(torch.randn(2, 16, 12))

    def forward(self, x):
        total = 0
        for up, down in zip(self.gate_up_proj, self.down_proj, strict=True):
            gate, value = nn.functional.linear(x, up).chunk(2, -1)
            total = total + nn.functional.linear(gate.relu() * value, down)
        return total


class Zoo(nn.Module):
    """One module of each kind; takes token ids [n, 9]."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 16)
        self.norm = nn.LayerNorm(16)
        self.linear = nn.Linear(16, 12)
        self.conv1d = Conv1D(16, 12)
        self.experts = FewExperts()
        self.conv = nn.Conv2d(1, 3, 3)

    def forward(self, ids):
        x = self.linear(self.norm(self.embedding(ids)))
        x = self.experts(self.conv1d(x.relu()))
        return self.conv(x.unsqueeze(1))


def zoo(dtype=torch.float32):
    torch.manual_seed(3)
    return Zoo().to(dtype).eval()


def finish(model, inputs):
    with torch.no_grad(), Calibration(model):
        model(inputs)
    freeze(model)
    return model


IDS = torch.arange(18).view(2, 9) % 11
ALL = ["embedding", "linear", "conv1d", "experts", "conv"]
SYMMETRIES = [(d, s) for d, s in itertools.product(qtypes, (True, False)) if s or "float" not in d]


@pytest.mark.parametrize(("dtype", "symmetric"), SYMMETRIES)
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_every_weight_in_every_module(tmp_path, dtype, symmetric, granularity):
    model = zoo()
    quantize(
        model,
        QuantArgs(dtype=dtype, granularity=granularity, symmetric=symmetric),
        include=ALL,
    )
    finish(model, IDS)
    save(model, tmp_path)
    back = load_into(zoo(), tmp_path)
    assert sum(isinstance(m, QModule) for m in back.modules()) == len(ALL)
    assert torch.equal(back(IDS), model(IDS))


ACTIVATIONS = {
    "static": "int8",
    "static affine": QuantArgs(granularity="tensor", symmetric=False),
    "static float8": "float8_e5m2",
    "per token": TOKEN,
    "per tensor, dynamic": QuantArgs(granularity="tensor", dynamic=True),
}


@pytest.mark.parametrize("activations", ACTIVATIONS.values(), ids=ACTIVATIONS)
@pytest.mark.parametrize("weights", ["int8", "int4", "float8_e4m3fnuz"])
def test_every_activation_scheme_with_outputs_of_norms(tmp_path, weights, activations):
    model = zoo()
    quantize(model, weights, activations, exclude="embedding", outputs=activations)
    finish(model, IDS)
    save(model, tmp_path)
    back = load_into(zoo(), tmp_path)
    assert torch.equal(back(IDS), model(IDS))


@pytest.mark.parametrize("weights", [None, "int8", "int4"])
def test_each_float_comes_back_in_its_own_dtype(tmp_path, weights):
    model = zoo()
    model.embedding.to(torch.bfloat16)
    model.conv.half()
    model.norm.weight.data.fill_(0.1)  # no bfloat16 holds it
    if weights is not None:
        quantize(model, weights, include=["embedding", "linear", "conv"])
        freeze(model)
    before = {key: tensor.dtype for key, tensor in model.state_dict().items()}
    save(model, tmp_path)
    back = load_into(zoo(), tmp_path)
    assert {key: tensor.dtype for key, tensor in back.state_dict().items()} == before
    assert back.embedding.weight.dtype == torch.bfloat16
    assert back.conv.weight.dtype == torch.float16
    for key, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[key], tensor), key


@pytest.mark.parametrize("quantized", [False, True])
def test_a_transformers_model_of_two_dtypes(tiny_llama, tmp_path, quantized):
    tiny_llama.model.layers[1].to(torch.bfloat16)
    tiny_llama.model.layers[0].input_layernorm.weight.data.fill_(1.1)
    if quantized:
        quantize(tiny_llama, "int4")
        freeze(tiny_llama)
    save(tiny_llama, tmp_path)
    back = load(tmp_path).model
    want = {key: (t.dtype, t) for key, t in tiny_llama.state_dict().items()}
    found = back.state_dict()
    assert all(found[k].dtype == d and torch.equal(found[k], t) for k, (d, t) in want.items())
    first, second = (layer.mlp.up_proj.weight.dtype for layer in back.model.layers)
    assert (first, second) == (torch.float32, torch.bfloat16)


def test_a_parameter_that_only_sounds_like_a_scale(tmp_path):
    """CLIP has a logit_scale; it is a float like any other."""

    def model():
        made = nn.Sequential(nn.Linear(4, 4))
        made.register_parameter("logit_scale", nn.Parameter(torch.full((2,), 2.0)))
        return made

    save(model(), tmp_path)
    assert load_into(model(), tmp_path).logit_scale.dtype == torch.float32


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_shards(tiny_llama, tmp_path, weights):
    quantize(tiny_llama, weights)
    freeze(tiny_llama)
    save(tiny_llama, tmp_path, max_shard_size=8_000)
    shards = sorted(tmp_path.glob("model-*-of-*.safetensors"))
    assert len(shards) > 2
    for path in shards:
        sizes = [tensor.nbytes for tensor in load_file(path).values()]
        assert sum(sizes) <= 8_000 or len(sizes) == 1
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {path.name for path in shards}
    assert torch.equal(load(tmp_path).model(**BATCH).logits, tiny_llama(**BATCH).logits)
    save(tiny_llama, tmp_path)  # in one file again: no shard is left over
    assert [p.name for p in tmp_path.glob("*.safetensors*")] == ["model.safetensors"]


def test_a_lost_shard_is_named(tiny_llama, tmp_path):
    save(tiny_llama, tmp_path, max_shard_size=8_000)
    lost = sorted(tmp_path.glob("model-*"))[1]
    lost.unlink()
    with pytest.raises(WorkbenchError, match=lost.name):
        load(tmp_path)


def test_a_shared_slot_is_not_a_shared_weight(tmp_path):
    """q, k and v may hold one and the same input transform; each gets it back."""
    from workbench.quant import TransformedLinear

    slot = torch.rand(8) + 0.5

    def model():
        torch.manual_seed(0)
        linears = [nn.Linear(8, 8) for _ in range(3)]
        return nn.Sequential(*(TransformedLinear.from_linear(m, m.weight, slot) for m in linears))

    quantized = model()
    quantize(quantized, "int8", TOKEN)
    freeze(quantized)
    save(quantized, tmp_path)
    back = load_into(model(), tmp_path)
    x = torch.randn(5, 8)
    assert torch.equal(back(x), quantized(x))
    plain = nn.Sequential(*(nn.Linear(8, 8) for _ in range(3)))  # which has no slot of its own
    assert torch.equal(load_into(plain, tmp_path)(x), quantized(x))


# Refusals


def saved(folder, change):
    """Save a zoo with an int4 linear, and change its tensors and its manifest."""
    model = zoo()
    quantize(model, "int4", include="linear")
    freeze(model)
    save(model, folder)
    tensors = load_file(folder / "model.safetensors")
    manifest = json.loads((folder / "workbench.json").read_text())
    change(tensors, manifest)
    save_file(tensors, folder / "model.safetensors")
    (folder / "workbench.json").write_text(json.dumps(manifest))


def a_word_less(tensors, _):
    tensors["linear.weight_packed"] = tensors["linear.weight_packed"][:, :1].contiguous()


def a_scale_less(tensors, _):
    del tensors["linear.weight_scale"]


def a_tensor_more(tensors, _):
    tensors["linear.weight_extra"] = torch.zeros(1)


def floats_for_integers(tensors, _):
    tensors["linear.weight_packed"] = tensors["linear.weight_packed"].float()


def an_unknown_dtype(_, manifest):
    manifest["quantization_map"]["linear"]["weights"]["dtype"] = "int5"


def an_unknown_float(_, manifest):
    manifest["dtypes"]["norm.weight"] = "float7"


def an_unknown_format(_, manifest):
    manifest["quantization_map"]["linear"]["format"] = "zipped"


def an_unknown_module(_, manifest):
    manifest["quantization_map"]["lin"] = manifest["quantization_map"].pop("linear")


def a_newer_version(_, manifest):
    manifest["format_version"] = 3


def a_version_in_words(_, manifest):
    manifest["format_version"] = "2"


def a_matrix_of_three_dimensions(tensors, _):
    key = next(key for key in tensors if key.endswith("weight_shape"))
    tensors[key] = torch.tensor([1, 2, 3])


def an_older_version(_, manifest):
    manifest["format_version"] = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (a_word_less, r"linear\.weight_packed has shape \(12, 1\).*needs \(12, 2\)"),
        (a_scale_less, r"lacks linear\.weight_scale, of shape \(12, 1\)"),
        (a_tensor_more, r"holds linear\.weight_extra"),
        (floats_for_integers, r"linear\.weight_packed is torch\.float32.*needs torch\.int32"),
        (an_unknown_dtype, r"linear.*unknown dtype 'int5'.*allowed"),
        (an_unknown_float, r"'float7'"),
        (an_unknown_format, r"'zipped'.*pack-quantized"),
        (an_unknown_module, r"quantizes 'lin', which the model lacks"),
        (a_newer_version, r"^\S+ was written in format 3.*newer"),
        (a_version_in_words, r"damaged: it has no format_version"),
        (a_matrix_of_three_dimensions, r"shape \[1, 2, 3\]"),
        (an_older_version, r"format 1.*again"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    saved(tmp_path, change)
    with pytest.raises(WorkbenchError, match=message):
        load_into(zoo(), tmp_path)


def test_a_pickle_is_named_and_never_run(tiny_llama, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    tiny_llama.config.save_pretrained(tmp_path)
    torch.save({"weight": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WorkbenchError, match=r"pickle \(pytorch_model\.bin\)"):
        load(tmp_path)
    assert not (tmp_path / "sprung").exists()
