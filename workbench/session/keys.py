"""Hashes of all that a measured result depends on, so that it is reused only where it holds."""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import workbench


def content_digest(model: nn.Module) -> str:
    """A hash of every parameter and buffer of `model`, by name and value."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(
            tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()[:16]


def data_digest(batches: Iterable[Mapping[str, Any]]) -> str:
    """A hash of all tensors of `batches`."""
    digest = hashlib.sha256()
    for batch in batches:
        for name, value in sorted(batch.items()):
            if isinstance(value, Tensor):
                digest.update(name.encode())
                digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def setting() -> str:
    """A hash of code version, machine and threads."""
    parts = {
        "versions": [workbench.__version__, torch.__version__],
        "machine": [
            platform.machine(),
            platform.processor(),
            torch.backends.cpu.get_cpu_capability(),
        ],
        "threads": torch.get_num_threads(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def result_key(recipe: str, model: str, data: str) -> str:
    """Hash the digests of recipe, model content and data with the setting."""
    parts = [recipe, model, data, setting()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
