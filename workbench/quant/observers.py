"""What watches a static activation during calibration and settles its range."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor


class Observer(Protocol):
    """Turns the absolute maxima of successive batches into one range."""

    absmax: Tensor | None

    def update(self, absmax: Tensor, momentum: float) -> None:
        """Take in the absolute maximum of one more batch."""


class MaxObserver:
    """The largest absolute value ever seen; does not depend on the order of batches."""

    def __init__(self) -> None:
        self.absmax: Tensor | None = None

    def update(self, absmax: Tensor, momentum: float) -> None:  # noqa: ARG002 - Observer's signature
        self.absmax = absmax if self.absmax is None else self.absmax.maximum(absmax)


class MomentumObserver:
    """An exponential moving average as in quanto: new = momentum * old + (1 - momentum) * batch."""

    def __init__(self) -> None:
        self.absmax: Tensor | None = None

    def update(self, absmax: Tensor, momentum: float) -> None:
        self.absmax = absmax if self.absmax is None else self.absmax.lerp(absmax, 1 - momentum)


observers: dict[str, Callable[[], Observer]] = {"max": MaxObserver, "momentum": MomentumObserver}
