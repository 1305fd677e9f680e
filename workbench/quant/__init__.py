"""Quantized tensors and modules, and the verbs quantize, Calibration and freeze."""

from workbench.quant.args import QuantArgs
from workbench.quant.calibration import Calibration
from workbench.quant.freeze import freeze
from workbench.quant.modules import QLinear, QModule, TransformedLinear, register_qmodule
from workbench.quant.qtypes import qint8, qtype
from workbench.quant.quantize import quantization_map, quantize, requantize
from workbench.quant.tensor import QTensor

__all__ = [
    "Calibration",
    "QLinear",
    "QModule",
    "QTensor",
    "QuantArgs",
    "TransformedLinear",
    "freeze",
    "qint8",
    "qtype",
    "quantization_map",
    "quantize",
    "register_qmodule",
    "requantize",
]
