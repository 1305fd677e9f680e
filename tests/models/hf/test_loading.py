"""What `from_pretrained` makes of our checkpoints and of float ones, and what it refuses."""

import json
import subprocess
import sys
import textwrap

import pytest
import torch
from hf_runs import BATCH, TOKEN, frozen, logits, quantized_names
from transformers import AutoModelForCausalLM

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.models import load, save
from workbench.quant import Calibration, QModule, QuantArgs, freeze, quantize

BEYOND = {
    "e5m2": ("float8_e5m2", "float8_e5m2", {}),
    "int2": (QuantArgs(dtype="int2", granularity="group", symmetric=False), None, {}),
    "outputs": ("int8", "int8", {"outputs": "int8"}),
    "tied": ("int8", None, {"include": ["*embed_tokens", "lm_head", "*mlp*"]}),
}


@pytest.mark.parametrize(("weights", "activations", "how"), BEYOND.values(), ids=BEYOND)
@pytest.mark.parametrize("device_map", [None, "cpu", {"": "cpu"}])
def test_from_pretrained_reads_what_we_saved(
    tiny_llama, tmp_path, weights, activations, how, device_map
):
    model = frozen(tiny_llama, weights, activations, **how)
    save(model, tmp_path)
    back = AutoModelForCausalLM.from_pretrained(tmp_path, device_map=device_map)
    assert torch.equal(logits(back), logits(model))
    ids = BATCH["input_ids"][:1, :4]
    made = (m.generate(ids, max_new_tokens=8, do_sample=False) for m in (back, model))
    assert torch.equal(*made)


SCHEMES = {
    "int4": ("int4", None),
    "int8, per token": ("int8", TOKEN),
    "float8": ("float8", None),
    "a dict": ({"dtype": "int4", "granularity": "group", "group_size": 16}, None),
}


@pytest.mark.parametrize(("weights", "activations"), SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("include", [None, ["*"]])
def test_quantizing_on_load_is_quantizing_what_was_loaded(
    tiny_llama, folder, weights, activations, include
):
    config = wb.WorkbenchConfig(weights=weights, activations=activations, include=include)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config)
    args = QuantArgs.model_validate(weights) if isinstance(weights, dict) else weights
    quantize(tiny_llama, args, activations, include=include)
    freeze(tiny_llama)
    assert torch.equal(logits(model), logits(tiny_llama))
    names = [
        [n for n, m in x.named_modules() if isinstance(m, QModule)] for x in (model, tiny_llama)
    ]
    assert names[0] == names[1]
    assert not any(t.is_meta for t in [*model.parameters(), *model.buffers()])


def test_static_activations_wait_for_calibration(folder, tmp_path):
    config = wb.WorkbenchConfig(weights="int8", activations="int8")
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config)
    assert not any(m.frozen for m in model.modules() if isinstance(m, QModule))
    with pytest.raises(WorkbenchError, match="not frozen"):
        model.save_pretrained(tmp_path / "out")
    with torch.no_grad(), Calibration(model):
        model(**BATCH)
    freeze(model)
    model.save_pretrained(tmp_path / "out")
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(back), logits(model))


def test_another_dtype_may_be_asked_for(tiny_llama, tmp_path):
    frozen(tiny_llama, "float8_e5m2")
    save(tiny_llama, tmp_path)
    back = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert back.dtype == torch.bfloat16
    assert logits(back).dtype == torch.bfloat16
    linear = back.model.layers[0].mlp.up_proj
    assert linear.weight.dtype == torch.bfloat16
    assert torch.equal(linear.weight_scale, tiny_llama.model.layers[0].mlp.up_proj.weight_scale)


def test_what_was_loaded_changes_dtype(folder):
    """`to` and `bfloat16` work; transformers refuses `half` and `float` of any quantized model."""
    config = wb.WorkbenchConfig(weights="int8")
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config)
    expected = logits(model)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        found = logits(model.to(dtype))
        assert found.dtype == dtype
        assert torch.cosine_similarity(found.float().flatten(), expected.flatten(), 0) > 0.9999
    assert logits(model.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"`.half\(\)` is not supported for quantized"):
        model.half()


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_what_we_wrote_in_the_format_of_compressed_tensors_is_ours(tiny_llama, tmp_path, weights):
    """Bit for bit, whether or not that library is installed."""
    from transformers.quantizers import auto

    model = frozen(tiny_llama, weights, TOKEN if weights == "int8" else None)
    save(model, tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert said["quant_method"] == "compressed-tensors"
    back = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(back), logits(model))
    assert len(quantized_names(back)) == 14
    del said["manifest"]  # somebody else's
    claimed = auto.AUTO_QUANTIZATION_CONFIG_MAPPING["compressed-tensors"]
    assert type(claimed.from_dict(said)).__name__ == "CompressedTensorsConfig"


def test_a_quantized_module_that_lacks_a_tensor_is_refused_before_loading(tiny_llama, tmp_path):
    from safetensors.torch import load_file, save_file

    save(frozen(tiny_llama, "float8_e5m2"), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight_scale"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WorkbenchError, match=r"lacks model\.layers\.0\.mlp\.up_proj\.weight_scale"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("key", ["model.layers.0.mlp.up_proj.weight", "model.norm.weight"])
def test_a_shape_that_does_not_fit_is_named(tiny_llama, tmp_path, key):
    from safetensors.torch import load_file, save_file

    save(frozen(tiny_llama, "float8_e5m2"), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[key] = tensors[key][:7].clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WorkbenchError, match=rf"{key} has shape \(7.*needs \((48|32)"):
        load(tmp_path)


@pytest.mark.parametrize("first", ["workbench", "transformers"])
def test_the_quantizer_is_known_whichever_is_imported_first(first):
    second = {"workbench": "transformers", "transformers": "workbench"}[first]
    code = f"""
        import {first}
        if "{first}" == "transformers": transformers.AutoModel
        import {second}
        import sys
        assert "{first}" == "transformers" or "torch" not in sys.modules
        from transformers import PreTrainedModel
        from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
        print(AUTO_QUANTIZER_MAPPING["workbench"].__name__)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["WorkbenchQuantizer"]
