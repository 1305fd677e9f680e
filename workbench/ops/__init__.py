"""`torch.ops.workbench.*`: the arithmetic of quantized layers, and which implementation runs."""

from workbench.ops.registry import Implementation, Layer, implementations, report
from workbench.ops.choose import select

__all__ = ["Implementation", "Layer", "implementations", "report", "select"]
