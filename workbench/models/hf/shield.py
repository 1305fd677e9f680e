"""Keeping transformers from giving first values to weights that came in another form."""

from collections.abc import Mapping

import torch
from torch import nn

Shapes = Mapping[str, torch.Size]


def shield(module: nn.Module, shapes: Shapes) -> None:
    """Let each weight of `shapes` that is no parameter seem to be there, with its values.

    After loading, transformers runs the first initialization of every model, which reads such
    attributes and passes over tensors that are marked.
    """
    for name, shape in shapes.items():
        held = module._buffers.get(name)  # integers of that name
        if held is None and name not in module._parameters:
            held = module.__dict__[name] = torch.empty(shape, device="meta")
        if held is not None:
            held._is_hf_initialized = True  # type: ignore[attr-defined]


def unshield(module: nn.Module, shapes: Shapes) -> None:
    """Undo `shield`."""
    for name in shapes:
        module.__dict__.pop(name, None)
