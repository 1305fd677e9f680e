"""The quantized modules and the registry that says which float module each one replaces."""

from workbench.quant.modules.base import QModule, qmodule_for, register_qmodule
from workbench.quant.modules.linear import QLinear
from workbench.quant.modules.transformed import TransformedLinear

__all__ = ["QLinear", "QModule", "TransformedLinear", "qmodule_for", "register_qmodule"]
