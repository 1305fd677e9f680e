"""GGUF files, read back by the gguf package and by transformers."""

import numpy as np
import pytest
import torch
from tiny_models import bert, llama

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.export import export
from workbench.models import load
from workbench.quant import Calibration, QuantArgs, freeze, quantize

gguf = pytest.importorskip("gguf")

BATCH = {"input_ids": torch.arange(32).view(2, 16)}
HALF = 2.0**-11  # the largest relative rounding of a float16


def group(dtype, size=32, symmetric=True):
    return QuantArgs(dtype=dtype, granularity="group", group_size=size, symmetric=symmetric)


def read(folder):
    """Every tensor by GGUF's name: its type's name and its values."""
    tensors = gguf.GGUFReader(folder / "model.gguf").tensors
    return {
        t.name: (t.tensor_type.name, gguf.quants.dequantize(t.data, t.tensor_type)) for t in tensors
    }


SCHEMES = {
    "int8 in groups": (group("int8"), "Q8_0"),
    "int8 in groups of 64": (group("int8", 64), "Q8_0"),
    "int8 per channel": ("int8", "Q8_0"),
    "int8, one scale": (QuantArgs(granularity="tensor"), "Q8_0"),
    "int4 in groups": (group("int4"), "Q4_0"),
    "int4 per channel": (QuantArgs(dtype="int4"), "Q4_0"),
    "int4 affine": (group("int4", symmetric=False), "Q4_1"),
}


@pytest.mark.parametrize(("weights", "kind"), SCHEMES.values(), ids=SCHEMES)
def test_blocks_hold_our_integers_exactly_and_scales_to_float16(tmp_path, weights, kind):
    model = llama()
    quantize(model, weights)
    freeze(model)
    export(model, tmp_path, format="gguf")
    found = read(tmp_path)
    wanted = model.model.layers[1].mlp.down_proj.weight
    named, values = found["blk.1.ffn_down.weight"]
    assert named == kind
    exact = wanted.dequantize().numpy()
    largest = np.abs(exact).max() * (3 if kind == "Q4_1" else 1)  # scale and minimum are rounded
    assert np.abs(values - exact).max() <= HALF * largest
    if kind != "Q4_1":  # the same integers: dividing by the rounded scale gives them back
        blocks = wanted.scale.half().float().numpy().reshape(-1, wanted.scale.shape[-1])
        size = exact.shape[1] // blocks.shape[1]
        scale = np.broadcast_to(blocks, (len(exact), blocks.shape[1])).repeat(size, 1)
        assert np.array_equal(np.rint(values / scale), wanted.integers().numpy())
        assert np.array_equal(values, wanted.integers().numpy() * scale)
    assert found["output_norm.weight"][0] == "F32"
    assert found["token_embd.weight"][0] == "F16"


@pytest.mark.parametrize("weights", [None, "int8", group("int4"), group("int4", symmetric=False)])
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_computes_the_same_from_it(tmp_path, weights, tied):
    """Rows of the rotary heads are reordered on the way there and back."""
    model = llama(tie_word_embeddings=tied)
    if weights is not None:
        quantize(model, weights)
        freeze(model)
    export(model, tmp_path / "out", format="gguf")
    theirs = load(tmp_path / "out").model
    with torch.no_grad():
        want, got = model(**BATCH).logits, theirs(**BATCH).logits
    assert (want - got).norm() / want.norm() < 4 * HALF


def test_heads_wider_than_the_hidden_size_says(tmp_path):
    model = llama(head_dim=32)
    export(model, tmp_path / "out", format="gguf")
    theirs = load(tmp_path / "out").model
    with torch.no_grad():
        want, got = model(**BATCH).logits, theirs(**BATCH).logits
    assert (want - got).norm() / want.norm() < 4 * HALF


@pytest.fixture(scope="module")
def pylm():
    return load("pylm")


def test_pylm_with_its_vocabulary(pylm, tmp_path):
    model = pylm.copy()
    quantize(model, "int8", "int8")
    batch = pylm.batches("calibration", samples=2, length=64)[0]
    with torch.no_grad(), Calibration(model):
        model(**batch)
    freeze(model)
    done = export(model, tmp_path / "out", format="gguf", tokenizer=pylm.tokenizer)
    assert any("token ids" in note for note in done.notes)  # llama.cpp cuts text otherwise
    assert any("rounds activations in its own way" in note for note in done.notes)
    fields = gguf.GGUFReader(done.folder / "model.gguf").fields
    tokens = [bytes(fields["tokenizer.ggml.tokens"].parts[i]).decode() for i in
              fields["tokenizer.ggml.tokens"].data]  # fmt: skip
    vocabulary = pylm.tokenizer.get_vocab()
    assert tokens == sorted(vocabulary, key=vocabulary.__getitem__)
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 0
    assert fields["tokenizer.ggml.token_type"].contents()[0] == gguf.TokenType.CONTROL
    assert not fields["tokenizer.ggml.add_bos_token"].contents()
    theirs = load(done.folder).model
    floats = wb.dequantize(model) and model  # the weights alone: activations in float
    with torch.no_grad():
        want, got = floats(**batch).logits, theirs(**batch).logits
    assert wb.metrics.sqnr_db(want, got) > 55


def test_llama_cpp_runs_it(pylm, tmp_path):
    engine = pytest.importorskip("llama_cpp")
    export(pylm.model, tmp_path / "out", format="gguf", tokenizer=pylm.tokenizer)
    ids = pylm.batches("evaluation", samples=1, length=32)[0]["input_ids"]
    model = engine.Llama(
        str(tmp_path / "out" / "model.gguf"), n_ctx=64, logits_all=True, verbose=False
    )
    model.eval(ids[0].tolist())
    got = torch.from_numpy(model.scores[:32].copy())
    with torch.no_grad():
        want = pylm.model(ids).logits[0]
    assert wb.metrics.sqnr_db(want, got) > 40


def slot(model):
    quantize(model, "int8", include="*o_proj")
    layer = model.model.layers[0].self_attn.o_proj
    layer.input_transform = torch.ones(64)
    freeze(model)


REFUSED = {
    "not a Llama": (lambda: bert(32), None, "this is a bert"),
    "biases": (lambda: llama(attention_bias=True), None, "q_proj has a bias"),
    "another rope": (
        lambda: llama(
            64, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
        ),
        None,
        "'linear'",
    ),
    "groups of 16": (llama, lambda m: quantize(m, group("int8", 16)), "blocks are 32 inputs long"),
    "int3": (llama, lambda m: quantize(m, "int3"), "q_proj has affine int3"),
    "float8": (llama, lambda m: quantize(m, "float8"), "float8"),
    "an unfolded smoothing": (llama, slot, "o_proj .* smoothing could not fold"),
}


@pytest.mark.parametrize(("build", "change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_rule_and_writes_nothing(tmp_path, build, change, message):
    model = build()
    if change is not None:
        change(model)
        freeze(model)
    with pytest.raises(WorkbenchError, match=message):
        export(model, tmp_path / "out", format="gguf")
    assert list(tmp_path.iterdir()) == []


def test_what_stops_halfway_leaves_the_old_file(tmp_path):
    out = tmp_path / "out"
    export(llama(), out, format="gguf")
    before = (out / "model.gguf").read_bytes()

    class Stop:
        def update(self, what, done, total):
            pass

        def check(self):
            raise wb.Cancelled

    with pytest.raises(wb.Cancelled), wb.reporting(Stop()):
        export(llama(128), out, format="gguf")
    assert (out / "model.gguf").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
