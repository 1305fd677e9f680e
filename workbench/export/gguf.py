"""GGUF, the file of llama.cpp."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from workbench.export.base import Exporter, Job
from workbench.export.blocks import blocks, kind_of
from workbench.export.llama import add_hyperparameters, check_llama, gguf_name, matrices, ordered
from workbench.export.vocabulary import add_vocabulary
from workbench.models.manifest import frozen_modules
from workbench.progress import track
from workbench.quant import QModule

FILE = "model.gguf"
ACTIVATIONS = (
    "llama.cpp rounds activations in its own way, to int8 in blocks of 32 as they come; what "
    "calibration found for them is not in the file."
)

Encoded = tuple[NDArray[Any], str]  # [rows, bytes or floats], and the type's name in gguf


class Gguf(Exporter):
    """Llamas with the integers they have: int8 as Q8_0, int4 as Q4_0 or Q4_1, floats as F16."""

    name = "gguf"
    what = "one file for llama.cpp: Llama models, int8 as Q8_0, int4 as Q4_0"
    packages = ("gguf",)
    install = "pip install 'quantization-workbench[gguf]'"

    def check(self, job: Job) -> None:
        check_llama(job.model)
        for name, module in frozen_modules(job.model).items():
            kind_of(name, module)

    def write(self, job: Job, folder: Path) -> tuple[str, ...]:
        notes = write_llama(job.model, folder / FILE, encoded, job.tokenizer)
        if job.tokenizer is not None:
            job.tokenizer.save_pretrained(folder)
        rounded = any(m.activations is not None for m in frozen_modules(job.model).values())
        return (*notes, ACTIVATIONS) if rounded else notes


def encoded(name: str, module: nn.Module) -> Encoded:
    """The weight of a module: integers in blocks, float vectors as F32 and matrices as F16."""
    if isinstance(module, QModule):
        kind = kind_of(name, module)
        return blocks(kind, module), kind
    values = float_weight(module)
    return (values, "F32") if values.ndim == 1 else (values.astype(np.float16), "F16")


def float_weight(module: nn.Module) -> NDArray[np.float32]:
    """The weight of a float module."""
    weight: Any = module.weight
    values: NDArray[np.float32] = weight.detach().float().cpu().numpy()
    return values


def write_llama(
    model: nn.Module,
    path: Path,
    encode: Callable[[str, nn.Module], Encoded],
    tokenizer: Any = None,
) -> tuple[str, ...]:
    """Write a Llama of transformers, one tensor in memory at a time; return notes for the user."""
    import gguf

    config: Any = model.config
    writer = gguf.GGUFWriter(path, "llama")
    try:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        add_hyperparameters(writer, config)
        notes = add_vocabulary(writer, tokenizer, config.vocab_size)

        def tensors() -> Iterator[tuple[str, NDArray[Any], Any]]:
            for name, module in matrices(model):
                values, kind = encode(name, module)
                found = ordered(name, values, config)
                yield gguf_name(name), found, gguf.GGMLQuantizationType[kind]

        for name, values, kind in tensors():
            writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        total = sum(1 for _ in matrices(model))
        for _, values, _ in track(tensors(), "writing GGUF", total):
            writer.write_tensor_data(values)
        files: Any = writer.fout
        end = files[0].tell()
    finally:
        writer.close()
    if path.stat().st_size < end:  # NumPy says nothing of a last buffer that it could not write
        raise OSError("not all of it could be written; is the disk full?")
    return notes
