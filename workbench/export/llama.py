"""A Llama of transformers in GGUF's words: hyperparameters, names, the order of rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from workbench.errors import WorkbenchError
from workbench.export.base import check_widths, refuse
from workbench.quant.modules import QModule


def check_llama(model: nn.Module) -> None:
    """Raise WorkbenchError where `model` is not a Llama that llama.cpp computes as we do."""
    config: Any = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    if kind != "llama" or not hasattr(model, "lm_head"):
        raise WorkbenchError(
            f"GGUF is written for causal language models of the Llama architecture, and this is a "
            f"{kind} ({type(model).__name__}): export it as onnx or openvino"
        )
    rope = config.rope_parameters.get("rope_type", "default")
    if rope != "default":
        raise WorkbenchError(
            f"the rotary positions of this model are of type {rope!r}; GGUF is written for "
            "'default' only: export it as onnx or openvino"
        )
    if config.hidden_act != "silu":
        raise WorkbenchError(
            f"the model activates by {config.hidden_act!r}; llama.cpp's Llama does by 'silu': "
            "export it as onnx or openvino"
        )
    check_widths(model, "llama.cpp")
    for name, module in matrices(model):
        gguf_name(name)
        if getattr(module, "bias", None) is not None:
            raise refuse(name, "has a bias", "GGUF's Llama has none", "export as onnx or openvino")
        if not isinstance(module, QModule) and "input_transform" in module._buffers:
            raise refuse(
                name,
                "multiplies its inputs by what smoothing could not fold",
                "GGUF has no tensor for that",
                "smooth only where it folds",
            )


def add_hyperparameters(writer: Any, config: Any) -> None:
    """Say what kind of Llama it is."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))


def matrices(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module with a weight, by name; a head that shares the embedding's is left out."""
    config: Any = model.config
    for name, module in model.named_modules():
        tied = name == "lm_head" and config.tie_word_embeddings
        weighted = "weight" in module._parameters or isinstance(module, QModule)
        if weighted and not tied:
            yield name, module


def gguf_name(name: str) -> str:
    """GGUF's name for the weight of the module `name`; raises WorkbenchError if it has none."""
    parts = name.split(".")
    stem = _NAMES.get(name)
    if stem is None and parts[:2] == ["model", "layers"] and parts[-1] in _PARTS:
        stem = f"blk.{parts[2]}.{_PARTS[parts[-1]]}"
    if stem is None:
        raise refuse(name, "is no part of a plain Llama", "GGUF has no name for it", "remove it")
    return f"{stem}.weight"


def ordered(name: str, rows: NDArray[Any], config: Any) -> NDArray[Any]:
    """The rows [out, ...] of the module `name` in llama.cpp's order.

    It wants the two rows of a head that rotate together next to each other.
    """
    last = name.rpartition(".")[-1]
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(last)
    if heads is None:
        return rows
    pairs = rows.reshape(heads, 2, -1, rows.shape[-1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows.shape))


_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_PARTS = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
