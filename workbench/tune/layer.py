"""One matrix on its way to its integers."""

import math
from dataclasses import dataclass, field

from torch import Tensor, nn

from workbench.quant import QLinear, QuantArgs
from workbench.quant.modules import QConv1D
from workbench.quant.optimizers import Optimizer
from workbench.quant.rounding import from_grid, to_grid
from workbench.tune.given import GivenNumbers
from workbench.tune.inputs import Inputs

Matrix = QLinear | QConv1D  # what algorithms that need inputs know how to round


@dataclass
class Layer:
    """A quantized linear, not frozen yet, and the inputs that calibration has for it.

    Algorithms hand it on to each other. `weight` float32 [out, in] is what its integers shall stand
    for, `optimizer` finds their `numbers` ([out, groups], or [1] for all) unless they are settled,
    and `rounded` is the matrix that the integers make, once an algorithm chose them; `notes` say
    what it had to live with.
    """

    name: str
    module: Matrix
    inputs: Inputs
    notes: list[str] = field(default_factory=list)
    rounded: Tensor | None = None

    def __post_init__(self) -> None:
        self.optimizer: Optimizer = self.module.optimizer
        self.weight = weight_of(self.module)
        self.bias: Tensor | None = self.module.bias
        self._numbers: tuple[Tensor, Tensor | None] | None = None

    def reload(self, inputs: Inputs) -> None:
        """Look again, after the weight and its inputs were scaled."""
        self.weight, self.inputs = weight_of(self.module), inputs

    @property
    def args(self) -> QuantArgs:
        """How the weight is quantized, its group size settled."""
        return self.module.args_of("weight")

    def use(self, optimizer: Optimizer) -> None:
        """Let `optimizer` find the numbers from here on."""
        self.optimizer, self._numbers, self.rounded = optimizer, None, None

    def settle(self, scale: Tensor, point: Tensor | None) -> None:
        """Keep to these numbers, in the shape of `numbers`."""
        self._numbers, self.rounded = (scale, point), None

    def blocks(self, matrix: Tensor) -> Tensor:
        """The matrix as blocks that share a scale: [out, groups, size], or [1, all]."""
        return self.module.grouped("weight", matrix)

    @property
    def numbers(self) -> tuple[Tensor, Tensor | None]:
        """Scale and zero point of each block of `weight`."""
        if self._numbers is None:
            blocks = self.blocks(self.weight)
            scale, point = self.optimizer(blocks.flatten(0, -2), self.args)
            shape = blocks.shape[:-1]
            self._numbers = scale.view(shape), None if point is None else point.view(shape)
        return self._numbers

    def nearest(self) -> Tensor:
        """The weight with every value rounded to its nearest."""
        scale, point = (n if n is None else n.unsqueeze(-1) for n in self.numbers)
        assert scale is not None
        blocks = self.blocks(self.weight)
        values = to_grid(blocks, scale, point, self.args.qtype)
        return from_grid(values, scale, point).reshape(self.weight.shape)

    @property
    def result(self) -> Tensor:
        """The matrix that the integers stand for."""
        return self.nearest() if self.rounded is None else self.rounded

    def sqnr_db(self) -> float:
        """Signal over rounding noise in the output for the calibration inputs, in dB."""
        signal = self.inputs.error(self.weight)
        noise = self.inputs.error(self.weight - self.result)
        if noise <= 0:
            return math.inf
        return 10 * math.log10(signal / noise) if signal > 0 else -math.inf

    def commit(self) -> None:
        """Put what was found into the module, whose own rounding then gives these very integers."""
        module = self.module
        if self.rounded is not None:
            replace_weight(module, self.rounded)
        if self._numbers is None:
            module.optimizer = self.optimizer
        else:
            scale, point = self._numbers
            flat = None if point is None else point.reshape(-1, 1)
            module.optimizer = GivenNumbers(scale.reshape(-1, 1), flat)
        module._numbers.clear()
        if self.bias is not None and self.bias is not module.bias:
            old = module._parameters["bias"]
            assert old is not None
            module._parameters["bias"] = nn.Parameter(self.bias.to(old.dtype), old.requires_grad)


def weight_of(module: Matrix) -> Tensor:
    """The float weight of `module`, float32 [out, in]."""
    weight = module._parameters["weight"]
    assert weight is not None
    return module.oriented(weight.detach()).float()


def replace_weight(module: Matrix, matrix: Tensor) -> None:
    """Give `module` another weight [out, in]; never written to, for other models may share it."""
    old = module._parameters["weight"]
    assert old is not None
    made = module.oriented(matrix).contiguous().to(old.dtype)
    module._parameters["weight"] = nn.Parameter(made, old.requires_grad)
    module._numbers.clear()
