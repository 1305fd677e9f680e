"""The quantized modules and the registry that says which float module each one replaces."""

from workbench.quant.modules.base import QModule
from workbench.quant.modules.conv import QConv
from workbench.quant.modules.embedding import QEmbedding
from workbench.quant.modules.inputs import QInputs
from workbench.quant.modules.linear import QConv1D, QLinear
from workbench.quant.modules.norm import QLayerNorm
from workbench.quant.modules.parameters import QParameters
from workbench.quant.modules.recurrent import QRecurrent
from workbench.quant.modules.registry import register_qmodule
from workbench.quant.modules.select import class_for, is_norm, qmodule_for
from workbench.quant.modules.transformed import Transformed, TransformedLinear, transformed_class

__all__ = [
    "QConv",
    "QConv1D",
    "QEmbedding",
    "QInputs",
    "QLayerNorm",
    "QLinear",
    "QModule",
    "QParameters",
    "QRecurrent",
    "Transformed",
    "TransformedLinear",
    "class_for",
    "is_norm",
    "qmodule_for",
    "register_qmodule",
    "transformed_class",
]
