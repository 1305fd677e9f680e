"""torch in float32 and in bfloat16: what every other row is compared with."""

from collections.abc import Callable

import torch
from torch import nn

from workbench.bench.engines.base import Kind, ModuleEngine
from workbench.bench.schemes import BF16, FP32, Scheme


class TorchFp32(ModuleEngine):
    """torch's own linear layer in float32."""

    name = "torch fp32"
    package = "torch"
    install = "pip install torch"
    ops = encoder_ops = decoder_ops = ("float",)
    scheme, own = FP32, torch.float32

    def offers(self, scheme: Scheme, kind: Kind = "layer") -> bool:
        del kind
        return scheme == self.scheme

    def dtype(self, scheme: Scheme, asked: torch.dtype) -> torch.dtype:
        del scheme, asked
        return self.own

    def convert(
        self, model: nn.Module, scheme: Scheme, calibrate: Callable[[nn.Module], object]
    ) -> nn.Module:
        del scheme, calibrate
        return model


class TorchBf16(TorchFp32):
    """torch's own linear layer in bfloat16."""

    name = "torch bf16"
    scheme, own = BF16, torch.bfloat16
