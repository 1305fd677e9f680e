"""Saving and loading: bit for bit, atomically, and in words when something is wrong."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from workbench.errors import WorkbenchError
from workbench.models import load, save
from workbench.models.loaded import share
from workbench.observe import observe
from workbench.quant import Calibration, QLinear, TransformedLinear, freeze, qint8, quantize
from workbench.smooth import smooth


def data(seed=0):
    g = torch.Generator().manual_seed(seed)
    return [{"input_ids": torch.randint(0, 97, (2, 16), generator=g)} for _ in range(2)]


@pytest.fixture
def tokenizer():
    words = {f"w{i}": i for i in range(97)}
    inner = Tokenizer(models.WordLevel(words, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="w0", pad_token="w0")


@pytest.fixture
def frozen(tiny_llama):
    model = share(tiny_llama)
    smooth(model, observe(model, data()), 0.5)
    mlp = model.model.layers[0].mlp  # one slot in any case, wherever smoothing could fold
    transform = torch.linspace(0.5, 2, mlp.down_proj.in_features)
    mlp.down_proj = TransformedLinear.from_linear(mlp.down_proj, mlp.down_proj.weight, transform)
    quantize(model, qint8, qint8, exclude="lm_head")
    with torch.no_grad(), Calibration(model):
        for batch in data():
            model(**batch)
    freeze(model)
    return model


def test_a_reloaded_model_computes_the_same_bits(frozen, tokenizer, tmp_path):
    save(frozen, tmp_path / "out", tokenizer=tokenizer, note="made in a test")
    back = load(tmp_path / "out")
    for batch in data(5):
        assert torch.equal(back.model(**batch).logits, frozen(**batch).logits)
    assert back.note == "made in a test"
    assert back.kind == "causal-lm"
    kinds = [type(m) for m in back.model.modules()]
    assert kinds.count(QLinear) == 14
    assert back.model.lm_head.weight is back.model.model.embed_tokens.weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_float_model_comes_back_too(tiny_llama, tokenizer, tmp_path, dtype):
    # Not `.to(dtype)`: that rounds the rotary frequencies too, which no checkpoint holds.
    model = type(tiny_llama)._from_config(tiny_llama.config, dtype=dtype).eval()
    save(model, tmp_path / "out", tokenizer=tokenizer)
    back = load(tmp_path / "out")
    assert back.model.dtype == dtype
    assert torch.equal(back.model(**data()[0]).logits, model(**data()[0]).logits)


def test_saving_a_reloaded_model_writes_the_same_tensors(frozen, tokenizer, tmp_path):
    save(frozen, tmp_path / "one", tokenizer=tokenizer)
    save(load(tmp_path / "one").model, tmp_path / "two", tokenizer=tokenizer)
    first, second = (tmp_path / n / "model.safetensors" for n in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_tensors_have_the_names_other_engines_read(frozen, tmp_path):
    from safetensors.torch import load_file

    save(frozen, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    prefix = "model.layers.0.mlp.up_proj."
    assert tensors[prefix + "weight"].dtype == torch.int8
    assert tensors[prefix + "weight_scale"].shape == (48, 1)
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert {group["format"] for group in config["config_groups"].values()} == {
        "int-quantized",
        "workbench",  # the slot is beyond that format
    }
    assert config["format"] == "mixed-precision"
    assert config["ignore"] == ["lm_head"]
    assert config["quant_method"] == "workbench"


def test_only_what_other_engines_can_run_claims_their_format(tiny_llama, tmp_path):
    quantize(tiny_llama, qint8, qint8, exclude="lm_head")
    with torch.no_grad(), Calibration(tiny_llama):
        tiny_llama(**data()[0])
    freeze(tiny_llama)
    save(tiny_llama, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "compressed-tensors"
    inputs = config["config_groups"]["group_0"]["input_activations"]
    assert (inputs["strategy"], inputs["dynamic"]) == ("tensor", False)


# Refusals


def test_an_unknown_model_is_refused_with_what_is_allowed():
    with pytest.raises(WorkbenchError, match=r"no model 'pilm'.*pylm, pylm-outliers, minilm"):
        load("pilm")


@pytest.mark.parametrize("keep", [0, 7, 100, 2000])
def test_a_truncated_file_is_named(frozen, tokenizer, tmp_path, keep):
    save(frozen, tmp_path / "out", tokenizer=tokenizer)
    path = tmp_path / "out" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WorkbenchError, match="missing, truncated or corrupt"):
        load(tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 100])
def test_a_truncated_plain_model_is_refused_too(tiny_llama, tokenizer, tmp_path, keep):
    tiny_llama.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WorkbenchError, match="cannot be loaded"):
        load(tmp_path)


def test_missing_weights_are_not_made_up(tiny_llama, tokenizer, tmp_path):
    from safetensors.torch import load_file, save_file

    tiny_llama.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WorkbenchError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        load(tmp_path)


def test_a_newer_format_is_refused(frozen, tmp_path):
    save(frozen, tmp_path / "out")
    path = tmp_path / "out" / "workbench.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with pytest.raises(WorkbenchError, match=r"^\S+ was written in format 99; .*install a newer"):
        load(tmp_path / "out")


def test_a_pickle_is_not_read(tiny_llama, tokenizer, tmp_path):
    tiny_llama.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(tiny_llama.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(WorkbenchError, match=r"a pickle \(pytorch_model\.bin\).*only safetensors"):
        load(tmp_path)


def test_an_unfrozen_model_is_not_saved(tiny_llama, tmp_path):
    quantize(tiny_llama, qint8, qint8)
    with pytest.raises(WorkbenchError, match="not frozen"):
        save(tiny_llama, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_named(frozen, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(WorkbenchError, match="file"):
            save(frozen, target)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_failed_save_keeps_the_old_checkpoint_and_no_litter(frozen, tmp_path, monkeypatch):
    save(frozen, tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules["workbench.models.save"], "save_file", fail)
    with pytest.raises(WorkbenchError, match="No space left"):
        save(frozen, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


WRITER = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
from workbench.models import save
folder = sys.argv[1]
config = LlamaConfig(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                     num_attention_heads=4)
model = LlamaForCausalLM(config)
value = 0
while True:
    value += 1
    for parameter in model.parameters():
        parameter.data.fill_(value)
    save(model, folder, note=str(value))
    print(value, flush=True)
"""


def test_killed_at_any_moment_one_whole_checkpoint_is_there(tmp_path):
    """Writers overwrite one checkpoint and are killed; every tensor must be of one round."""
    folder = tmp_path / "out"
    generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(4)))
    rounds = 0
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout.readline()  # the first save of this writer is done
        time.sleep(torch.rand(1, generator=generator).item() * 0.4)
        writer.send_signal(signal.SIGKILL)
        rounds += len(writer.stdout.read().split())
        writer.wait()
        loaded = load(folder)
        values = {p.unique().tolist().__str__() for p in loaded.model.parameters()}
        assert values == {f"[{float(loaded.note)}]"}
    assert rounds > 0
    save(loaded.model, folder)  # and the next writer sweeps up
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
