"""Numbers that an algorithm has settled already."""

from dataclasses import dataclass

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.quant import QuantArgs
from workbench.quant.optimizers import Optimizer
from workbench.quant.qtypes import qtype


@dataclass(frozen=True, eq=False)
class GivenNumbers(Optimizer):
    """The scales [n, 1], and zero points where affine, of the blocks of one weight."""

    scale: Tensor
    point: Tensor | None

    def __call__(self, blocks: Tensor, args: QuantArgs) -> tuple[Tensor, Tensor | None]:
        del args
        if len(blocks) != len(self.scale):
            raise WorkbenchError(
                f"numbers for {len(self.scale)} blocks do not fit a weight of {len(blocks)}"
            )
        point = None if self.point is None else self.point.to(blocks.device)
        return self.scale.to(blocks.device), point

    def search(self, blocks: Tensor, kind: qtype, affine: bool) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError("numbers were given; nothing is searched")
