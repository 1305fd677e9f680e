"""The context in which quantized modules watch their inputs."""

import logging
from contextvars import ContextVar, Token
from math import isfinite
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from workbench.errors import WorkbenchError
from workbench.quant.observers import Observer

logger = logging.getLogger(__name__)
_active: ContextVar["Calibration | None"] = ContextVar("workbench_calibration", default=None)


class Calibration:
    """While entered, quantized modules run in float and record the range of their inputs.

    It reaches only the thread or task that entered it, and only the modules of `model` if one is
    given, so that a chat and a calibration can share a process. Given the model, it also leaves out
    the positions that `attention_mask` marks as padding, whose values mean nothing and may be
    large. `momentum` (0..1) weighs the past in the "momentum" observer; the "max" observer has no
    use for it. `debug` logs the range of every activation as it comes, at level INFO.
    `streamline` is taken for scripts written for quanto, where it drops requantization between
    modules: here inputs are quantized where they are read, once, and there is none to drop.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        momentum: float = 0.9,
        streamline: bool = True,
        debug: bool = False,
    ) -> None:
        del streamline
        if not 0 <= momentum < 1:
            raise WorkbenchError(f"momentum {momentum} is outside 0 <= momentum < 1")
        self.momentum = momentum
        self.debug = debug
        self.model = model
        self._mask: Tensor | None = None
        self._handles: list[RemovableHandle] = []
        named = [] if model is None else list(model.named_modules())
        self._names = {id(module): name for name, module in named}
        self._tokens: list[Token[Calibration | None]] = []

    def covers(self, module: nn.Module) -> bool:
        """Whether `module` is to be watched."""
        return self.model is None or id(module) in self._names

    def watch(self, module: nn.Module, observer: Observer, x: Tensor) -> None:
        """Let the `observer` of `module` take in the activation `x` [..., K]."""
        values = self.values(x)
        if values.numel():
            name = self._names.get(id(module), type(module).__name__)
            low, high = (end.item() for end in values.aminmax())
            if not (isfinite(low) and isfinite(high)):
                raise WorkbenchError(
                    f"{name} was given values from {low} to {high} in calibration, which no range "
                    "holds: mend the batch, calibrate in float32, or exclude this layer"
                )
            if self.debug:
                logger.info("%s: %.4g to %.4g", name, low, high)
        observer.update(values, self.momentum)

    def values(self, x: Tensor) -> Tensor:
        """What `x` [..., K] holds outside padding."""
        if self._mask is not None and x.shape[:-1] == self._mask.shape:
            return x.detach()[self._mask.bool()]
        return x.detach()

    def _keep_mask(self, _: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        self._mask = mask if isinstance(mask, Tensor) else None

    def __enter__(self) -> Self:
        if self.model is not None:
            hook = self.model.register_forward_pre_hook(self._keep_mask, with_kwargs=True)
            self._handles.append(hook)
        self._tokens.append(_active.set(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _active.reset(self._tokens.pop())
        while self._handles:
            self._handles.pop().remove()


def active_calibration(module: nn.Module) -> Calibration | None:
    """The calibration that `module` should report to here and now, if any."""
    calibration = _active.get()
    return calibration if calibration is not None and calibration.covers(module) else None
