"""Memory of a model before, while and after it is quantized and frozen, each in its own process."""

import gc
import json
import subprocess
import sys
from collections.abc import Iterable

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from workbench.errors import WorkbenchError
from workbench.models import load
from workbench.ops.heap import trim
from workbench.ops.resident import peak, reset_peak, resident
from workbench.progress import track
from workbench.quant import freeze, quantize
from workbench.quant.qtypes import qtypes

RANDOM = "llama-1b"  # what stands in the table for a large model: random weights, no download


class MemoryRow(BaseModel):
    """Bytes of one model in one number type; `peak` is over what the process held beforehand.

    `before` and `after` are all parameters and buffers. `peak` (resident, Linux only) is the most
    that quantizing and freezing held at once, the float model included; `largest` the float bytes
    of the largest layer, and freezing takes no more than that on top. (Float pages of a file that
    another process has mapped too cannot be given back.)
    """

    model_config = ConfigDict(frozen=True)
    model: str
    dtype: str
    before: int
    after: int
    layers_before: int
    layers_after: int
    largest: int
    peak: int | None


def measure_memory(models: Iterable[str], dtypes: Iterable[str] = tuple(qtypes)) -> list[MemoryRow]:
    """Measure each model in each number type, weights only, in a fresh process each.

    A model is a name that `workbench.load` takes or "llama-1b", a random Llama of a billion
    parameters in float32. Raises WorkbenchError where a measurement fails.
    """
    pairs = [(model, dtype) for model in models for dtype in dtypes]
    rows = []
    for model, dtype in track(pairs, "measuring memory"):
        command = [sys.executable, "-m", "workbench.bench.memory", model, dtype]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            raise WorkbenchError(f"{model} in {dtype} could not be measured: {' '.join(last)}")
        rows.append(MemoryRow.model_validate_json(done.stdout.splitlines()[-1]))
    return rows


def measure_here(name: str, dtype: str) -> MemoryRow:
    """Measure in this process, which should have done nothing else."""
    model = _model(name)
    float_bytes = {n: _nbytes(m, recurse=False) for n, m in model.named_modules()}
    before = _nbytes(model)
    _warm_up(model, dtype)
    gc.collect()
    trim()  # what the heap only keeps would hide a new peak
    start = resident()
    reset_peak()
    chosen = quantize(model, weights=dtype)
    freeze(model)
    highest = peak()
    layers = {n: _nbytes(model.get_submodule(n), recurse=False) for n in chosen}
    return MemoryRow(
        model=name,
        dtype=dtype,
        before=before,
        after=_nbytes(model),
        layers_before=sum(float_bytes[n] for n in chosen),
        layers_after=sum(layers.values()),
        largest=max(float_bytes[n] for n in chosen),
        peak=None if start is None or highest is None else before + highest - start,
    )


def _model(name: str) -> nn.Module:
    if name != RANDOM:
        return load(name).model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.04, 0.04)
    return model


def _warm_up(model: nn.Module, dtype: str) -> None:
    """Bring in what the first use of anything brings, mapped weights too, which are no peak."""
    for parameter in model.parameters():
        parameter.detach().sum()
    small = nn.Sequential(nn.Linear(2048, 1024))
    quantize(small, weights=dtype)
    freeze(small)


def _nbytes(module: nn.Module, recurse: bool = True) -> int:
    tensors = [*module.parameters(recurse), *module.buffers(recurse)]
    return sum({t.data_ptr(): t.nbytes for t in tensors if t.numel()}.values())


if __name__ == "__main__":
    print(json.dumps(measure_here(*sys.argv[1:3]).model_dump()))
