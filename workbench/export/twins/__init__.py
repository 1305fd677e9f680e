"""Frozen layers as modules that torch.onnx traces into ONNX's own quantized operators.

They carry our integers, scales, zero points and smoothing as constants; nothing is rounded anew.
Eager calls of them mean nothing.
"""

from workbench.export.twins.check import check_layer
from workbench.export.twins.registry import traceable

__all__ = ["check_layer", "traceable"]
