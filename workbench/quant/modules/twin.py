"""Modules that share all that another module holds."""

from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

M = TypeVar("M", bound=nn.Module)


def unparametrized(module: nn.Module) -> nn.Module:
    """The module, or a twin whose parametrized tensors are parameters again."""
    if not is_parametrized(module):
        return module
    made: nn.Module = twin_of(module, type_before_parametrizations(module))
    for name in made._modules.pop("parametrizations"):  # type: ignore[union-attr]
        made._parameters[name] = nn.Parameter(getattr(module, name).detach())
    return made


def twin_of(module: nn.Module, kind: type[M]) -> M:
    """A module of class `kind` that shares all that `module` holds."""
    made = object.__new__(kind)
    made.__dict__ = {
        key: value.copy() if isinstance(value, dict) else value
        for key, value in module.__dict__.items()
    }
    return made
