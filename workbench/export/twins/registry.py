"""Which twin stands for which quantized layer, and a model with all of them in place."""

from collections.abc import Mapping

from torch import nn

from workbench.export.twins.embedding import EmbeddingTwin
from workbench.export.twins.linear import LinearTwin
from workbench.models.loaded import share
from workbench.models.manifest import frozen_modules
from workbench.quant import QModule
from workbench.quant.modules.embedding import QEmbedding
from workbench.quant.modules.linear import QConv1D, QLinear
from workbench.quant.quantize import replace_module

_twins: Mapping[type[QModule], type[LinearTwin] | type[EmbeddingTwin]] = {
    QLinear: LinearTwin,
    QConv1D: LinearTwin,
    QEmbedding: EmbeddingTwin,
}


def twin_of(module: QModule) -> type[LinearTwin] | type[EmbeddingTwin] | None:
    """The twin of the class of `module`, or of one it derives from and adds nothing to."""
    return next((_twins[base] for base in type(module).__mro__[:2] if base in _twins), None)


def traceable(model: nn.Module, nbits: bool = True) -> nn.Module:
    """A copy of the frozen `model`, sharing its tensors, with a twin for each quantized layer.

    Without `nbits` it has ONNX's own operators only, and weights of 4 bits take a byte each.
    """
    made = share(model)
    for name, module in frozen_modules(made).items():
        twin = twin_of(module)
        assert twin is not None  # checked before
        replace_module(made, name, twin(module, nbits))
    return made.eval()
