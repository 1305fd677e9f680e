"""The context in which quantized modules watch their inputs."""

from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self

from torch import nn

from workbench.errors import WorkbenchError

_active: ContextVar["Calibration | None"] = ContextVar("workbench_calibration", default=None)


class Calibration:
    """While entered, quantized modules run in float and record the range of their inputs.

    It reaches only the thread or task that entered it, and only the modules of `model` if one is given,
    so that a chat and a calibration can share a process. `momentum` (0..1) weighs the past in the
    "momentum" observer; the "max" observer has no use for it.
    """

    def __init__(self, model: nn.Module | None = None, *, momentum: float = 0.9) -> None:
        if not 0 <= momentum < 1:
            raise WorkbenchError(f"momentum {momentum} is outside 0 <= momentum < 1")
        self.momentum = momentum
        self._modules = None if model is None else {id(module) for module in model.modules()}
        self._tokens: list[Token[Calibration | None]] = []

    def covers(self, module: nn.Module) -> bool:
        """Whether `module` is to be watched."""
        return self._modules is None or id(module) in self._modules

    def __enter__(self) -> Self:
        self._tokens.append(_active.set(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _active.reset(self._tokens.pop())


def active_calibration(module: nn.Module) -> Calibration | None:
    """The calibration that `module` should report to here and now, if any."""
    calibration = _active.get()
    return calibration if calibration is not None and calibration.covers(module) else None
