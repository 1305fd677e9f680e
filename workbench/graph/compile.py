"""Compile a frozen model in place, with the backend that fuses around quantized layers."""

from collections.abc import Mapping, Sequence
from inspect import signature
from time import perf_counter
from typing import Any

import torch
from torch import nn

from workbench.graph.compiled import DONE, Compiled
from workbench.ops import native


def compile(model: nn.Module, inputs: Mapping[str, Any] | None = None) -> Compiled:  # noqa: A001 - torch's own name
    """Let `model`, in evaluation, run as few native ops; its modules and tensors stay as they are.

    A language model of transformers also decodes so in `generate`, for which its generation
    settings get a static cache; `generation_config.max_cache_len` keeps one size of it for all
    prompts. With keyword `inputs` compilation happens now, otherwise on the first call. Where the
    native kernels are missing, or the model cannot be traced in one piece, it stays as it was and
    the answer says why. `model.compile(...)` undoes it by compiling another way.

    Without gradients, calls may no longer look whether modules and their configuration are what
    they were when compiled: after changing those, compile again. Weights may change at any time.
    """
    problem = native.status().problem
    if problem is not None:
        return Compiled(problem=problem)
    if hasattr(model, "generate") and getattr(model, "can_generate", lambda: False)():
        _prepare_generation(model)
    # A second of imports that only compiling is worth.
    from torch._dynamo.exc import TorchDynamoException

    from workbench.graph import fuse
    from workbench.graph.shortcut import Shortcut

    before = model._compiled_call_impl
    model.compile(**settings())
    assert model._compiled_call_impl is not None
    model._compiled_call_impl = Shortcut(model, model._compiled_call_impl)
    done = Compiled()
    if inputs is not None:
        start = perf_counter()
        try:
            with torch.no_grad(), fuse.counting(done.ops):
                model(**inputs)
        except TorchDynamoException as error:
            model._compiled_call_impl = before
            what, reason = type(model).__name__, str(error).strip().splitlines()[0]
            return Compiled(problem=f"{what} cannot be traced in one piece: {reason}")
        done.seconds = perf_counter() - start
    vars(model)[DONE] = done
    return done


_ISOLATES = "isolate_recompiles" in signature(torch.compile).parameters  # torch 2.13


def settings() -> dict[str, Any]:
    """What `torch.compile` is told; anew for each call, which takes out some of it."""
    how: dict[str, Any] = {"backend": "workbench", "fullgraph": True}
    # Elsewhere models of one class share what is compiled, and only guards keep them apart.
    if _ISOLATES:
        how |= {"isolate_recompiles": True, "options": {"guard_filter_fn": _needed}}
    return how


def _needed(guards: Sequence[Any]) -> list[bool]:
    """Which of a graph's guards are asked on each call: those on thousands of attributes of modules
    take as long as a small layer.
    """
    if torch.is_grad_enabled():  # as in training, where modules do change
        return [True] * len(guards)
    return [not guard.orig_guard.source.is_unspecialized_nn_module() for guard in guards]


def _prepare_generation(model: nn.Module) -> None:
    from transformers import CompileConfig

    how = CompileConfig(backend="workbench", fullgraph=True, dynamic=False, mode=None)  # type: ignore[arg-type]
    how._compile_all_devices = True  # type: ignore[assignment] # or transformers leaves CPUs out
    settings: Any = model.generation_config
    settings.cache_implementation, settings.compile_config = "static", how
