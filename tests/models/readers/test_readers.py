"""Checkpoints of other libraries: written by them, or here from their published layouts."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.models import load, save
from workbench.quant import QModule

BATCH = {"input_ids": torch.arange(32).view(2, 16)}


def logits(model):
    with torch.no_grad():
        return model(**BATCH).logits


def close(found, wanted, bound=1e-5):
    return (found - wanted).norm() <= bound * wanted.norm()


def linears(model):
    """The matrices inside the blocks."""
    kinds = torch.nn.Linear
    return {n: m for n, m in model.model.layers.named_modules() if isinstance(m, kinds)}


def write(folder, model, tensors, said):
    """A folder with config.json and one file of tensors, as any of these libraries leaves it."""
    model.config.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"architectures": ["LlamaForCausalLM"]}
    path.write_text(json.dumps(config | {"quantization_config": said}))
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def floats_outside(model, names):
    """The tensors of `model` that no quantized module of `names` replaces."""
    replaced = {f"model.layers.{name}.weight" for name in names} | {"lm_head.weight"}
    return {k: t.detach().clone() for k, t in model.state_dict().items() if k not in replaced}


# quanto


@pytest.mark.parametrize("weights", ["qint8", "qint4", "qint2", "qfloat8", "qfloat8_e5m2"])
@pytest.mark.parametrize("hidden", [32, 128])
def test_quantos_own_checkpoints(tmp_path, quanto, weights, hidden):
    model = llama(hidden)
    theirs = quanto.QuantizedModelForCausalLM.quantize(model, weights=weights)
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path).model
    assert sum(isinstance(m, QModule) for m in ours.modules()) == 15
    for name, module in ours.named_modules():
        if isinstance(module, QModule):
            wanted = theirs.get_submodule(name).weight.dequantize()
            assert close(module.weight.dequantize(), wanted, 1e-6), name
    assert close(logits(ours), logits(theirs))
    save(ours, tmp_path / "ours")  # and goes on as one of ours
    assert torch.equal(logits(load(tmp_path / "ours").model), logits(ours))


def llama(hidden):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def opt(hidden):
    """With a bias, and a layer norm whose output the next linear layers read as it is."""
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=97,
        hidden_size=hidden,
        word_embed_proj_dim=hidden,
        ffn_dim=3 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    return OPTForCausalLM(config).eval()


@pytest.mark.parametrize("streamline", [True, False])
@pytest.mark.parametrize("kinds", [("qint8", "qint8"), ("qint4", "qint8"), ("qint8", "qfloat8")])
@pytest.mark.parametrize("build", [llama, opt])
def test_quantos_activations(tmp_path, quanto, build, kinds, streamline):
    """As quanto computes when it loads the checkpoint; it rounds what layers put out, too.

    Its streamlining leaves out some of that, but only until the model is saved: no file has it.
    """
    model = build(32)
    plain = logits(model)
    quanto.quantize(model, *(getattr(quanto, kind) for kind in kinds))
    with torch.no_grad(), quanto.Calibration(streamline=streamline):
        model(**BATCH)
    quanto.freeze(model)
    quanto.QuantizedModelForCausalLM(model).save_pretrained(tmp_path)
    wanted = logits(quanto.QuantizedModelForCausalLM.from_pretrained(tmp_path))
    loaded = load(tmp_path)
    assert "put out is rounded too" in loaded.note
    found = logits(loaded.model)
    # A sum that ends in another last bit may round to the next step.
    assert (found - wanted).norm() <= 0.02 * (wanted - plain).norm()
    assert close(logits(model), wanted) != streamline
    save(loaded.model, tmp_path / "ours")
    assert torch.equal(logits(load(tmp_path / "ours").model), found)
    wb.dequantize(loaded.model)
    assert not any("output_scale" in key for key in loaded.model.state_dict())


def test_a_damaged_quanto_checkpoint_is_named(tmp_path, quanto):
    quanto.QuantizedModelForCausalLM.quantize(llama(32), weights="qint4").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    shift = tensors.pop("model.layers.0.mlp.up_proj.weight._shift")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(
        WorkbenchError, match=r"lacks model\.layers\.0\.mlp\.up_proj\.weight\._shift"
    ):
        load(tmp_path)
    tensors["model.layers.0.mlp.up_proj.weight._shift"] = shift
    save_file(tensors, path, metadata={"format": "pt"})
    names = json.loads((tmp_path / "quanto_qmap.json").read_text())
    names["model.layers.0.mlp.up_proj"]["weights"] = "qint5"
    (tmp_path / "quanto_qmap.json").write_text(json.dumps(names))
    with pytest.raises(WorkbenchError, match="qint5"):
        load(tmp_path)


# compressed-tensors

SCHEMES = {
    "W8A8": (
        "int-quantized",
        {"num_bits": 8, "strategy": "channel"},
        {"num_bits": 8, "strategy": "token", "dynamic": True},
    ),
    "W4A16": ("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 16}, None),
    "W4A16 affine": (
        "pack-quantized",
        {"num_bits": 4, "strategy": "group", "group_size": 16, "symmetric": False},
        None,
    ),
    "W8A16": ("pack-quantized", {"num_bits": 8, "strategy": "channel"}, None),
    "fp8": (
        "float-quantized",
        {"num_bits": 8, "type": "float", "strategy": "tensor"},
        {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False},
    ),
}


@pytest.mark.parametrize(("form", "weights", "inputs"), SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("targets", [["Linear"], ["re:.*layers.*"]])
def test_what_compressed_tensors_compresses(tmp_path, form, weights, inputs, targets):
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    group = {"targets": targets, "weights": weights, "input_activations": inputs, "format": form}
    scheme = QuantizationScheme.model_validate(group)
    compressor = BaseCompressor.get_value_from_registry(form)
    model = llama(32).to(torch.bfloat16)  # the usual dtype of scales, too
    names = linears(model)
    tensors, wanted = floats_outside(model, names), {}
    tensors["lm_head.weight"] = model.lm_head.weight.detach()
    for name, module in names.items():
        weight = module.weight.detach()
        size = weights.get("group_size", weight.shape[1])
        whole = weights["strategy"] == "tensor"
        blocks = weight.reshape(1, -1) if whole else weight.unflatten(1, (-1, size))
        low, high = blocks.amin(-1), blocks.amax(-1)
        scale, point = calculate_qparams(low, high, scheme.weights)
        local = {"weight": weight, "weight_scale": scale, "weight_zero_point": point}
        if inputs is not None and not inputs.get("dynamic"):
            local["input_scale"] = torch.tensor([0.01], dtype=torch.bfloat16)
        packed = compressor.compress(local, scheme)
        tensors.update({f"model.layers.{name}.{key}": t for key, t in packed.items()})
        scaled = {**packed, "weight_scale": packed["weight_scale"].float()}
        wanted[name] = compressor.decompress(scaled, scheme)["weight"]
    said = {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }
    write(tmp_path, model, tensors, said)
    ours = load(tmp_path).model
    found = linears(ours)
    assert all(isinstance(module, QModule) for module in found.values())
    for name, weight in wanted.items():
        assert torch.equal(found[name].weight.dequantize(), weight), name
        kept = tensors.get(f"model.layers.{name}.input_scale")
        assert kept is None or torch.equal(found[name].input_scale, kept.float())
    assert logits(ours).isfinite().all()


def test_formats_that_are_not_read_are_named(tmp_path):
    model = llama(32)
    tensors = floats_outside(model, ()) | {"lm_head.weight": model.lm_head.weight}
    tensors["model.layers.0.mlp.up_proj.weight_scale"] = torch.ones(1)
    said = {
        "quant_method": "compressed-tensors",
        "format": "nvfp4-pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4}}},
    }
    write(tmp_path, model, tensors, said)
    with pytest.raises(WorkbenchError, match=r"'nvfp4-pack-quantized'.*not read.*allowed"):
        load(tmp_path)


# GPTQ and AWQ, from the layouts that their papers' code published


def words(values, bits, order=None):
    """Pack unsigned [n, ...] along the first axis into int32, one value after the other."""
    per = 32 // bits
    order = order or range(per)
    made = np.zeros((values.shape[0] // per, *values.shape[1:]), dtype=np.uint32)
    for place, index in enumerate(order):
        made |= values[index::per].astype(np.uint32) << np.uint32(bits * place)
    return torch.from_numpy(made.view(np.int32).copy())


def quantized(weight, bits, size, symmetric):
    """Unsigned q [in, out], z and scale [groups, out] of a weight [out, in], and what they mean."""
    blocks = weight.detach().t().reshape(-1, size, weight.shape[0]).numpy()
    low, high = np.minimum(blocks.min(1), 0), np.maximum(blocks.max(1), 0)
    if symmetric:
        scale = np.maximum(-low, high) * 2 / (2**bits - 1)
        zero = np.full(scale.shape, 2 ** (bits - 1))
    else:
        scale = (high - low) / (2**bits - 1)
        zero = np.clip(np.round(-low / scale), 1, 2**bits - 1).astype(int)
    scale = scale.astype(np.float16)
    wide = scale.astype(np.float32)[:, None]
    q = np.clip(np.round(blocks / wide) + zero[:, None], 0, 2**bits - 1).astype(int)
    meant = ((q - zero[:, None]) * wide).reshape(-1, weight.shape[0]).T
    return q.reshape(-1, weight.shape[0]), zero, scale, torch.from_numpy(meant.copy())


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
def test_gptq(tmp_path, bits, symmetric, version):
    model = llama(32)
    names = linears(model)
    tensors, wanted = floats_outside(model, names), {}
    tensors["lm_head.weight"] = model.lm_head.weight.detach()
    for name, module in names.items():
        q, zero, scale, wanted[name] = quantized(module.weight, bits, 16, symmetric)
        stored = zero - (version == "gptq")
        start = f"model.layers.{name}."
        tensors[start + "qweight"] = words(q, bits)
        tensors[start + "qzeros"] = words(stored.T, bits).t()
        tensors[start + "scales"] = torch.from_numpy(scale)
        tensors[start + "g_idx"] = torch.arange(len(q), dtype=torch.int32) // 16
    said = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": 16,
        "sym": symmetric,
        "desc_act": False,
        "checkpoint_format": version,
    }
    write(tmp_path, model, tensors, said)
    found = linears(load(tmp_path).model)
    for name, weight in wanted.items():
        assert isinstance(found[name], QModule)
        assert torch.equal(found[name].weight.dequantize(), weight), name


def test_gptq_in_the_order_of_activations_comes_as_floats(tmp_path):
    model = llama(32)
    names = linears(model)
    tensors, wanted = floats_outside(model, names), {}
    tensors["lm_head.weight"] = model.lm_head.weight.detach()
    for name, module in names.items():
        order = torch.randperm(module.in_features)
        q, zero, scale, meant = quantized(module.weight[:, order], 4, 16, False)
        back = torch.argsort(order)
        wanted[name] = meant[:, back]
        start = f"model.layers.{name}."
        tensors[start + "qweight"] = words(q[back.numpy()], 4)
        tensors[start + "qzeros"] = words((zero - 1).T, 4).t()
        tensors[start + "scales"] = torch.from_numpy(scale)
        tensors[start + "g_idx"] = (back // 16).int()
    said = {"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": True}
    write(tmp_path, model, tensors, said)
    found = linears(load(tmp_path).model)
    for name, weight in wanted.items():
        assert type(found[name]) is torch.nn.Linear
        assert torch.equal(found[name].weight, weight), name


def test_awq(tmp_path):
    model = llama(32)
    names = linears(model)
    tensors, wanted = floats_outside(model, names), {}
    tensors["lm_head.weight"] = model.lm_head.weight.detach()
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    for name, module in names.items():
        q, zero, scale, wanted[name] = quantized(module.weight, 4, 16, False)
        start = f"model.layers.{name}."
        tensors[start + "qweight"] = words(q.T, 4, order).t()
        tensors[start + "qzeros"] = words(zero.T, 4, order).t()
        tensors[start + "scales"] = torch.from_numpy(scale)
    said = {"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemm"}
    write(tmp_path, model, tensors, said)
    found = linears(load(tmp_path).model)
    for name, weight in wanted.items():
        assert isinstance(found[name], QModule)
        assert torch.equal(found[name].weight.dequantize(), weight), name


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"quant_method": "gptq", "bits": 3}, r"3 bits.*allowed: 2, 4, 8"),
        ({"quant_method": "awq", "bits": 4, "version": "marlin"}, r"marlin.*allowed: 4, gemm"),
    ],
)
def test_layouts_that_are_not_read_are_named(tmp_path, said, message):
    model = llama(32)
    write(tmp_path, model, floats_outside(model, ()), said)
    with pytest.raises(WorkbenchError, match=message):
        load(tmp_path)


# GGUF


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_0"])
def test_gguf(tmp_path, kind):
    gguf = pytest.importorskip("gguf")
    model = llama(32)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    wanted = {}
    for key, tensor in model.state_dict().items():
        data = tensor.numpy()
        matrix = data.ndim == 2 and "layers" in key
        chosen = gguf.GGMLQuantizationType[kind if matrix else "F32"]
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        rotated = heads.get(key.split(".")[-2])
        if rotated:  # llama.cpp pairs neighbours where transformers pairs halves
            split = data.reshape(rotated, 2, -1, data.shape[1])
            data = split.swapaxes(1, 2).reshape(data.shape)
        stored = gguf.quants.quantize(data, chosen)
        meant = gguf.quants.dequantize(stored, chosen)
        if rotated:
            meant = meant.reshape(rotated, -1, 2, data.shape[1]).swapaxes(1, 2).reshape(data.shape)
        wanted[key] = torch.from_numpy(meant.copy())
        writer.add_tensor(names.get_name(key, (".weight",)), stored, raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = load(tmp_path).model.state_dict()
    for key, tensor in wanted.items():
        assert torch.equal(found[key], tensor), key
