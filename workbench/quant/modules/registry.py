"""Which quantized class stands for which float class."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from torch import nn

if TYPE_CHECKING:
    from workbench.quant.modules.base import QModule

registry: dict[str, "type[QModule]"] = {}  # by full name, so that no library need be imported
Q = TypeVar("Q", bound="type[QModule]")


def class_name(float_class: type | str) -> str:
    """The full name of a class."""
    if isinstance(float_class, str):
        return float_class
    return f"{float_class.__module__}.{float_class.__qualname__}"


def register_qmodule(*float_classes: type[nn.Module] | str) -> Callable[[Q], Q]:
    """Class decorator: quantize modules of these classes, or full names, with the decorated class.

    Subclasses are included: one with a `forward` of its own must call `super().forward` to have
    its inputs quantized, and reads the quantized weight as `self.weight` in any case.
    """

    def decorate(mixin: Q) -> Q:
        registry.update({class_name(float_class): mixin for float_class in float_classes})
        return mixin

    return decorate


@cache
def quantized_class(mixin: "type[QModule]", float_class: type[nn.Module]) -> "type[QModule]":
    """The class of quantized `float_class` modules."""
    bases = mixin.bases_for(float_class)
    return mixin if bases == (mixin,) else type(mixin.__name__, bases, {})
