"""A hash of what a model is made of."""

import hashlib

import torch
from torch import nn


def content_digest(model: nn.Module) -> str:
    """A hash of every parameter and buffer of `model`, by name and value."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(
            tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()[:16]
