"""Architectures, each particular in some way: quantized on load as after it, and both ways back."""

import pytest
import torch
from hf_runs import BATCH, TOKEN, frozen, logits
from transformers import AutoModel, AutoModelForCausalLM

import workbench as wb
from workbench.models import load, save
from workbench.quant import freeze, quantize

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
