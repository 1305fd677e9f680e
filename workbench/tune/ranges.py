"""Rounding to nearest, in a range that the weight alone decides."""

from dataclasses import dataclass, field
from typing import ClassVar

from workbench.quant import HqqOptimizer, MaxOptimizer, MseOptimizer, QModule
from workbench.quant.optimizers import Optimizer
from workbench.tune.algorithm import Algorithm, register_algorithm
from workbench.tune.layer import Layer


class _Ranges(Algorithm):
    """Lets an optimizer find the numbers."""

    needs_inputs: ClassVar[bool] = False

    optimizer: Optimizer

    def __call__(self, layer: Layer) -> None:
        self.optimizer.check(layer.args)
        layer.use(self.optimizer)

    def without_inputs(self, module: QModule) -> None:
        assert module.weights is not None
        self.optimizer.check(module.weights)
        module.optimizer = self.optimizer
        module._numbers.clear()


@register_algorithm("rtn")
@dataclass(frozen=True)
class Rtn(_Ranges):
    """All of the range, the absmax where symmetric: what others are judged against."""

    optimizer: Optimizer = field(default_factory=MaxOptimizer)


@register_algorithm("mse")
@dataclass(frozen=True)
class Mse(_Ranges):
    """The range with the least squared error of the weight."""

    optimizer: Optimizer = field(default_factory=MseOptimizer)


@register_algorithm("hqq")
@dataclass(frozen=True)
class Hqq(_Ranges):
    """The zero point by half-quadratic search, for affine weights."""

    optimizer: Optimizer = field(default_factory=HqqOptimizer)
