"""Compile a frozen model in place, with the backend that fuses around quantized layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from workbench.graph import fuse
from workbench.ops import native


@dataclass
class Compiled:
    """What `compile` did: how many ops of each kind it made, or the `problem` that kept it away."""

    ops: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    problem: str | None = None


def compile(model: nn.Module, inputs: Mapping[str, Any] | None = None) -> Compiled:  # noqa: A001 - torch's own name
    """Let `model`, in evaluation, run as few native ops; its modules and tensors stay as they are.

    A language model of transformers also decodes so in `generate`, for which its generation
    settings get a static cache; `generation_config.max_cache_len` keeps one size of it for all
    prompts. With keyword `inputs` compilation happens now, otherwise on the first call. Where the
    native kernels are missing, or the model cannot be traced in one piece, it stays as it was and
    the answer says why. `model.compile(...)` undoes it by compiling another way.
    """
    problem = native.status().problem
    if problem is not None:
        return Compiled(problem=problem)
    if hasattr(model, "generate") and getattr(model, "can_generate", lambda: False)():
        _prepare_generation(model)
    before = model._compiled_call_impl
    model.compile(backend="workbench", fullgraph=True)
    if inputs is None:
        return Compiled()
    start = perf_counter()
    counted: dict[str, int] = {}
    try:
        with torch.no_grad(), fuse.counting(counted):
            model(**inputs)
    except TorchDynamoException as error:
        model._compiled_call_impl = before
        reason = str(error).strip().splitlines()[0]
        return Compiled(problem=f"{type(model).__name__} cannot be traced in one piece: {reason}")
    return Compiled(counted, perf_counter() - start)


def _prepare_generation(model: nn.Module) -> None:
    from transformers import CompileConfig

    how = CompileConfig(backend="workbench", fullgraph=True, dynamic=False, mode=None)  # type: ignore[arg-type]
    how._compile_all_devices = True  # type: ignore[assignment] # or transformers leaves CPUs out
    settings: Any = model.generation_config
    settings.cache_implementation, settings.compile_config = "static", how
