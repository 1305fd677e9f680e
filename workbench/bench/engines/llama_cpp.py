"""llama.cpp, through llama-cpp-python; whole language models of the Llama architecture only."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.bench.engines.base import Bind, Engine, Layer
from workbench.bench.engines.decoding import ROOM, Decoder
from workbench.bench.schemes import Scheme
from workbench.export.gguf import Encoded, float_weight, write_llama

FILE = "model.gguf"
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
    """Write a Llama of transformers as GGUF, quantized by llama.cpp's own rules."""
    import gguf

    kind = {16: "F16", 8: "Q8_0", 4: "Q4_0"}[scheme.bits]

    def encode(_: str, module: nn.Module) -> Encoded:
        values = float_weight(module)
        if values.ndim == 1:
            return values, "F32"
        return gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind]), kind

    write_llama(model, path, encode)
