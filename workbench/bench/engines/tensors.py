"""Tensors as quantization libraries make them: subclasses that hold other tensors."""

import copy
from typing import Any

from torch import Tensor, nn


def tensor_bytes(module: nn.Module) -> int:
    """Bytes of all parameters and buffers, those inside of tensor subclasses too, each once."""
    found: dict[tuple[int, int], int] = {}
    waiting: list[Tensor] = [*module.parameters(), *module.buffers()]
    while waiting:
        tensor = waiting.pop()
        if hasattr(tensor, "__tensor_flatten__"):
            names, _ = tensor.__tensor_flatten__()
            waiting += [getattr(tensor, name) for name in names]
        else:
            found[tensor.data_ptr(), tensor.nbytes] = tensor.nbytes
    return sum(found.values())


def plain(found: Tensor) -> Tensor:
    """A tensor of floats, where an engine returns a quantized one."""
    return found.dequantize() if type(found) is not Tensor else found


def duplicate(model: nn.Module) -> nn.Module:
    """Copy `model` and every tensor in it, subclasses that `copy.deepcopy` refuses included."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        made = _clone(tensor.detach())
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(made, requires_grad=False) if is_parameter else made
    return copy.deepcopy(model, memo)


def _clone(tensor: Tensor) -> Tensor:
    if not hasattr(tensor, "__tensor_flatten__"):
        return tensor.clone()
    names, context = tensor.__tensor_flatten__()
    inner = {name: _clone(getattr(tensor, name)) for name in names}
    kind: Any = type(tensor)
    made: Tensor = kind.__tensor_unflatten__(inner, context, tensor.shape, tensor.stride())
    return made
