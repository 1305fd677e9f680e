"""Make quantization final: integers replace the float weights."""

from typing import Literal, get_args

from torch import nn

from workbench.errors import WorkbenchError
from workbench.quant.args import QuantArgs
from workbench.quant.modules import QModule

Uncalibrated = Literal["error", "dynamic", "float"]


def freeze(model: nn.Module, uncalibrated: Uncalibrated = "error") -> list[str]:
    """Freeze every quantized module of `model`; return the names of those that were frozen.

    `uncalibrated` says what becomes of static layers that calibration never reached: refuse and
    name them, quantize their inputs per token as they come, or give them back their float weights.
    Raises WorkbenchError before anything is changed.
    """
    if uncalibrated not in get_args(Uncalibrated):
        allowed = ", ".join(get_args(Uncalibrated))
        raise WorkbenchError(f"uncalibrated={uncalibrated!r} is unknown; allowed: {allowed}")
    quantized = {n: m for n, m in model.named_modules() if isinstance(m, QModule)}
    if not quantized:
        raise WorkbenchError(
            "nothing to freeze: the model holds no quantized module; quantize it first"
        )
    missed = [name for name, module in quantized.items() if not module.calibrated]
    if missed and uncalibrated == "error":
        raise WorkbenchError(
            f"{len(missed)} of {len(quantized)} layers were never calibrated, such as {missed[0]}: "
            "run batches through the model inside `with Calibration():`, or freeze with "
            "uncalibrated='dynamic' or 'float'"
        )
    for name in missed:
        module = quantized[name]
        if uncalibrated == "dynamic":
            module.activations = QuantArgs(granularity="token", dynamic=True)
        else:
            model.set_submodule(name, module.to_float())
            del quantized[name]
    for module in quantized.values():
        module.freeze()
    return list(quantized)
