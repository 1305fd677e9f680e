"""`torch.ops.workbench.*`: the arithmetic of quantized layers, and which implementation runs."""

from workbench.ops.registry import Implementation, implementations, report, select

__all__ = ["Implementation", "implementations", "report", "select"]
