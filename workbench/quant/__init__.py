"""Quantized tensors and modules, and the verbs quantize, Calibration and freeze."""

from workbench.quant.args import QuantArgs
from workbench.quant.calibration import Calibration
from workbench.quant.coverage import Coverage, coverage
from workbench.quant.freeze import freeze
from workbench.quant.modules import (
    QLayerNorm,
    QLinear,
    QModule,
    Transformed,
    TransformedLinear,
    register_qmodule,
    transformed_class,
)
from workbench.quant.optimizers import (
    AbsmaxOptimizer,
    HqqOptimizer,
    MaxOptimizer,
    MseOptimizer,
    Optimizer,
)
from workbench.quant.qtypes import (
    qfloat8,
    qfloat8_e4m3fn,
    qfloat8_e4m3fnuz,
    qfloat8_e5m2,
    qint2,
    qint3,
    qint4,
    qint6,
    qint8,
    qtype,
)
from workbench.quant.quantize import dequantize, quantization_map, quantize
from workbench.quant.requantize import requantize
from workbench.quant.slower import Slower, against_float, why_in_float
from workbench.quant.tensor import QTensor

__all__ = [
    "AbsmaxOptimizer",
    "Calibration",
    "Coverage",
    "HqqOptimizer",
    "MaxOptimizer",
    "MseOptimizer",
    "Optimizer",
    "QLayerNorm",
    "QLinear",
    "QModule",
    "QTensor",
    "QuantArgs",
    "Slower",
    "Transformed",
    "TransformedLinear",
    "against_float",
    "coverage",
    "dequantize",
    "freeze",
    "qfloat8",
    "qfloat8_e4m3fn",
    "qfloat8_e4m3fnuz",
    "qfloat8_e5m2",
    "qint2",
    "qint3",
    "qint4",
    "qint6",
    "qint8",
    "qtype",
    "quantization_map",
    "quantize",
    "register_qmodule",
    "requantize",
    "transformed_class",
    "why_in_float",
]
