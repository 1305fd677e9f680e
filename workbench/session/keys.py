"""Hashes of all that a measured result depends on, so that it is reused only where it holds."""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

import workbench
from workbench.models.digest import content_digest

__all__ = ["content_digest", "data_digest", "result_key", "setting"]


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
