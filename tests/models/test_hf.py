"""transformers' own loading, saving, generating and training, with models of ours."""

import json
import subprocess
import sys
import textwrap

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.models import load, save
from workbench.quant import Calibration, QModule, QuantArgs, freeze, quantize

BATCH = {"input_ids": torch.arange(32).view(2, 16)}
TOKEN = QuantArgs(granularity="token", dynamic=True)


def logits(model):
    with torch.no_grad():
        return model(**BATCH).logits


def frozen(model, weights, activations=None, **how):
    quantize(model, weights, activations, **how)
    with torch.no_grad(), Calibration(model):
        model(**BATCH)
    freeze(model)
    return model


def quantized_names(model):
    return [name for name, module in model.named_modules() if isinstance(module, QModule)]


@pytest.fixture
def folder(tiny_llama, tmp_path):
    """The float checkpoint of the tiny Llama."""
    tiny_llama.save_pretrained(tmp_path / "float")
    return tmp_path / "float"


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


@pytest.mark.parametrize("weights", ["int4", "int8", "float8_e5m2"])
def test_save_pretrained_and_back(folder, tmp_path, weights):
    config = wb.WorkbenchConfig(weights=weights)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config)
    model.save_pretrained(tmp_path / "two", max_shard_size="20KB")
    assert len(list((tmp_path / "two").glob("*.safetensors"))) > 1
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "two")
    assert torch.equal(logits(back), logits(model))
    assert torch.equal(logits(load(tmp_path / "two").model), logits(model))
    back.save_pretrained(tmp_path / "three", max_shard_size="20KB")
    for path in (tmp_path / "two").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "three" / path.name).read_bytes()


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_what_was_frozen_here_saves_itself_too(tiny_llama, tmp_path, weights):
    model = frozen(tiny_llama, weights, "int8")
    model.save_pretrained(tmp_path / "out")
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(back), logits(model))
    wb.dequantize(model)
    model.save_pretrained(tmp_path / "float")
    assert "quantization_config" not in json.loads((tmp_path / "float" / "config.json").read_text())
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "float")
    assert torch.equal(logits(back), logits(model))


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


def test_dequantize_gives_a_float_model(tiny_llama, tmp_path):
    model = frozen(tiny_llama, "float8_e5m2")
    save(model, tmp_path)
    back = AutoModelForCausalLM.from_pretrained(tmp_path)
    back.dequantize()
    assert not any(isinstance(m, QModule) for m in back.modules())
    assert (logits(back) - logits(model)).abs().max() < 1e-5
    back.save_pretrained(tmp_path / "float")
    assert "quantization_config" not in json.loads((tmp_path / "float" / "config.json").read_text())


def test_a_mixture_of_experts(tmp_path):
    """Names that transformers rewrites when it loads floats stay as they are in ours."""
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    model = MixtralForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "float")
    how = wb.WorkbenchConfig(weights="int4")
    made = AutoModelForCausalLM.from_pretrained(tmp_path / "float", quantization_config=how)
    frozen(model, "int4")
    assert torch.equal(logits(made), logits(model))
    made.save_pretrained(tmp_path / "out")
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(back), logits(model))
    save(model, tmp_path / "ours")
    assert torch.equal(logits(load(tmp_path / "ours").model), logits(model))


def test_the_class_that_was_saved_comes_back_with_its_head(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=16,
        patch_size=8,
        num_labels=5,
    )
    model = ViTForImageClassification(config).eval()
    quantize(model, "int8", TOKEN)
    freeze(model)
    save(model, tmp_path)
    back = load(tmp_path).model
    assert type(back) is ViTForImageClassification
    pixels = torch.randn(2, 3, 16, 16)
    assert torch.equal(back(pixels).logits, model(pixels).logits)


def test_a_bare_encoder(tmp_path):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
    )
    model = BertModel(config).eval()
    quantize(model, "float8_e5m2")
    freeze(model)
    save(model, tmp_path)
    back = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(back(**BATCH).last_hidden_state, model(**BATCH).last_hidden_state)


def test_trainer_trains_what_stayed_in_float(folder, tmp_path):
    from transformers import Trainer, TrainingArguments

    config = wb.WorkbenchConfig(weights="int4")
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config)
    before = {n: p.clone() for n, p in model.named_parameters()}
    integers = {n: b.clone() for n, b in model.named_buffers() if n.endswith("_packed")}
    rows = [{"input_ids": ids, "labels": ids} for ids in BATCH["input_ids"]]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "runs"),
        max_steps=3,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    assert all(not torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert all(torch.equal(b, integers[n]) for n, b in model.named_buffers() if n in integers)
    trainer.save_model(str(tmp_path / "out"))
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(back), logits(model.eval()))


def test_quantos_class(tiny_llama, folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(folder)
    made = wb.QuantizedModelForCausalLM.quantize(model, weights=wb.qint4, exclude="lm_head")
    made.save_pretrained(tmp_path / "out")
    back = wb.QuantizedModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(back), logits(made))
    assert back.config.vocab_size == 97
    ids = BATCH["input_ids"][:1, :4]
    assert back.generate(ids, max_new_tokens=2).shape == (1, 6)
    with pytest.raises(WorkbenchError, match="no quantized"):
        wb.QuantizedModelForCausalLM(tiny_llama)
    with pytest.raises(WorkbenchError, match="never calibrated"):
        wb.QuantizedModelForCausalLM.quantize(tiny_llama, "int8", "int8")


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


IDS = BATCH["input_ids"]
SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
VISION = {k: v for k, v in SMALL.items() if k != "vocab_size"} | {"image_size": 16, "patch_size": 8}
SPEECH = {
    "conv_dim": (16, 16),
    "conv_stride": (5, 2),
    "conv_kernel": (10, 3),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
# What is particular: the weights, first values and ties of each.
ARCHITECTURES = {
    "GPT2LMHeadModel": (  # Conv1D
        {"vocab_size": 97, "n_embd": 32, "n_layer": 1, "n_head": 4},
        {"input_ids": IDS},
    ),
    "BertForMaskedLM": (SMALL, {"input_ids": IDS}),  # a tied bias
    "T5ForConditionalGeneration": (  # attention gives first values to its projections
        {"vocab_size": 97, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4},
        {"input_ids": IDS, "decoder_input_ids": IDS},
    ),
    "CLIPModel": (  # a parameter without dimensions
        {
            "text_config": SMALL | {"max_position_embeddings": 32, "eos_token_id": 96},
            "vision_config": VISION,
            "projection_dim": 16,
        },
        {"input_ids": IDS, "pixel_values": torch.ones(2, 3, 16, 16)},
    ),
    "ResNetForImageClassification": (  # buffers of batch norms
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        {"pixel_values": torch.ones(2, 3, 32, 32)},
    ),
    "Wav2Vec2Model": (SMALL | SPEECH, {"input_values": torch.ones(2, 400)}),  # weight norm
    "Gemma3ForCausalLM": (  # a scaled embedding, tied
        SMALL | {"num_key_value_heads": 2, "head_dim": 8},
        {"input_ids": IDS},
    ),
    "MambaForCausalLM": (  # a weight that is read, not called
        {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 1, "state_size": 8},
        {"input_ids": IDS},
    ),
    "FalconMambaForCausalLM": (  # the same, unless the model is marked as quantized
        {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 1, "state_size": 8},
        {"input_ids": IDS},
    ),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("how", [{"weights": "int4"}, {"weights": "int8", "include": ["*"]}])
def test_architectures(tmp_path, name, how):
    """On load as after it, and back from both ways of saving."""
    import transformers

    values, inputs = ARCHITECTURES[name]
    kind = getattr(transformers, name)
    torch.manual_seed(0)
    kind(kind.config_class(**values)).save_pretrained(tmp_path / "float")

    def outputs(model):
        with torch.no_grad():
            return next(t for t in model(**inputs).to_tuple() if isinstance(t, torch.Tensor))

    model = kind.from_pretrained(tmp_path / "float")
    quantize(model, **how)
    freeze(model)
    wanted = outputs(model)
    save(model, tmp_path / "ours")
    assert torch.equal(outputs(load(tmp_path / "ours").model), wanted)
    config = wb.WorkbenchConfig(**how)
    loaded = kind.from_pretrained(tmp_path / "float", quantization_config=config)
    assert torch.equal(outputs(loaded), wanted)
    loaded.save_pretrained(tmp_path / "theirs")
    assert torch.equal(outputs(kind.from_pretrained(tmp_path / "theirs")), wanted)
