"""llama.cpp, through llama-cpp-python; whole language models of the Llama architecture only."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.bench.engines.base import Bind, Decoder, Engine, Layer
from workbench.bench.schemes import Scheme

FILE = "model.gguf"
ROOM = 8  # tokens beyond the prompt
BATCH = 512


class LlamaCpp(Engine):
    """llama.cpp with its own numbers: F16, BF16, Q8_0 and Q4_0, both in groups of 32.

    It rounds activations to int8 in groups of 32 as well, so these are w8a8 and w4a8.
    """

    name = "llama.cpp"
    package = "llama_cpp"
    # Its AMX code crashes on some machines that have AMX.
    install = (
        "CMAKE_ARGS='-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VNNI=ON "
        "-DGGML_AMX_INT8=OFF' pip install llama-cpp-python gguf"
    )
    decoder_ops = ("float", "w8a8", "w4a8")
    bytes_of = "file"

    def offers(self, scheme: Scheme, kind: str = "layer") -> bool:
        return kind == "decoder" and scheme.op in self.decoder_ops and scheme.bits != 32

    def layer(self, linear: nn.Linear, scheme: Scheme, x: Tensor) -> Layer:
        raise NotImplementedError("llama.cpp has no single layers")

    def decoder(self, model: nn.Module, scheme: Scheme, ids: Tensor) -> Bind[Decoder]:
        folder = tempfile.TemporaryDirectory()  # lives as long as the functions below
        _write(model, scheme, Path(folder.name) / FILE)
        tokens = ids[0].tolist()

        def bind(threads: int) -> Decoder:
            llama = _open(Path(folder.name) / FILE, threads, len(tokens))

            def prefill() -> None:
                llama.reset()
                llama.eval(tokens)

            def decode() -> None:
                llama.n_tokens = len(tokens)  # it drops whatever its cache holds beyond
                llama.eval(tokens[-1:])

            def logits() -> Tensor:
                whole = _open(Path(folder.name) / FILE, threads, len(tokens), every=True)
                whole.eval(tokens)
                return torch.from_numpy(whole.scores[: len(tokens)].copy())

            prefill()
            return Decoder(prefill, decode, logits, (Path(folder.name) / FILE).stat().st_size)

        return bind


def _open(path: Path, threads: int, length: int, every: bool = False) -> Any:
    import llama_cpp

    return llama_cpp.Llama(
        str(path),
        n_ctx=length + ROOM,
        n_batch=BATCH,
        n_threads=threads,
        n_threads_batch=threads,
        logits_all=every,
        verbose=False,
    )


def _write(model: nn.Module, scheme: Scheme, path: Path) -> None:
    """Write a Llama of transformers as GGUF, without a vocabulary."""
    import gguf

    config: Any = model.config
    kinds = gguf.GGMLQuantizationType
    kind = {16: kinds.F16, 8: kinds.Q8_0, 4: kinds.Q4_0}[scheme.bits]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    for name, values in _tensors(model):
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            packed = gguf.quants.quantize(values, kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(model: nn.Module) -> Iterator[tuple[str, np.ndarray]]:
    """The weights under the names of GGUF, float32."""
    config: Any = model.config
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, parameter in model.named_parameters():
        values = parameter.detach().float().numpy()
        part = name.split(".")[-2]
        if part in heads:
            values = _interleaved(values, heads[part])
        yield _gguf_name(name), values


def _interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Put the two rows of a head that rotate together next to each other, as llama.cpp does."""
    pairs = weight.reshape(heads, 2, -1, weight.shape[-1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(weight.shape))


_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
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


def _gguf_name(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    _, _, layer, *_, part, _ = name.split(".")
    return f"blk.{layer}.{_PARTS[part]}.weight"
