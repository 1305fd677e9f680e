"""The linear of GPT-2 with an input slot; apart from others, as it needs transformers."""

from typing import Self

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from workbench.quant.modules.transformed import Transformed


class TransformedConv1D(Transformed, Conv1D):
    """Its weight is [in, out]."""

    plain = Conv1D

    @classmethod
    def _shaped_as(cls, linear: nn.Module) -> Self:
        assert isinstance(linear, Conv1D)
        return cls(linear.nf, linear.nx)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.input_transform)
