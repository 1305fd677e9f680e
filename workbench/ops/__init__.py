"""`torch.ops.workbench.*`: the arithmetic of quantized layers, and which implementation runs."""

from workbench.ops.choose import select
from workbench.ops.registry import Implementation, Layer, implementations, report

__all__ = ["Implementation", "Layer", "implementations", "report", "select"]
