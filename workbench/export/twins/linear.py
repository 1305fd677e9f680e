"""The twin of a linear layer."""

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic

from workbench.export.twins.weights import BLOCKS, Blocks, Channels, Groups, by_channel
from workbench.quant import QModule


class LinearTwin(nn.Module):
    """`y = round(x * transform) W^T + b`, by QDQ, MatMulInteger or MatMulNBits."""

    weight: Channels | Blocks | Groups
    transform: Tensor | None
    bias: Tensor | None

    def __init__(self, module: QModule, nbits: bool) -> None:
        super().__init__()
        a = module.activations
        self.register_buffer("transform", module.input_transform)
        self.register_buffer("bias", module._parameters["bias"])
        self.static = StaticInputs(module) if module.static else None
        self.per_token = a is not None and a.granularity == "token"
        self.per_tensor = a is not None and a.dynamic and not self.per_token
        # ONNX Runtime fuses a dequantized weight with float inputs into less than float32.
        fits = module.shapes["weight"][1] % BLOCKS[-1] == 0
        if by_channel(module) and not (nbits and a is None and fits):
            self.weight = Channels(module)
        else:
            self.weight = Blocks(module) if nbits else Groups(module)
        dynamic = self.per_token or self.per_tensor
        exact = module.stored().zero_point is None
        self.integer = dynamic and exact

    def forward(self, x: Tensor) -> Tensor:
        if self.transform is not None:
            x = x * self.transform
        if self.static is not None:
            x = self.static(x)
        if not (self.per_token or self.per_tensor):
            y = self.weight(x)
        else:
            top = x.abs().amax(-1, keepdim=True) if self.per_token else x.abs().amax()
            scale = top.div(127).clamp_min(1e-30)
            whole = (x / scale).round()
            if self.integer and isinstance(self.weight, Channels):
                y = self.weight.product(whole.to(torch.int8)) * scale
            else:
                y = self.weight(whole * scale)
        return y if self.bias is None else y + self.bias


class StaticInputs(nn.Module):
    """QuantizeLinear and DequantizeLinear with the scale that calibration found."""

    scale: Tensor
    point: Tensor

    def __init__(self, module: QModule) -> None:
        super().__init__()
        scale, point = module._buffers["input_scale"], module._buffers["input_zero_point"]
        assert scale is not None
        self.register_buffer("scale", scale.reshape(()))
        whole = torch.zeros(()) if point is None else point.reshape(())
        self.register_buffer("point", whole.to(torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        numbers = (self.scale, self.point)
        q = symbolic("QuantizeLinear", (x, *numbers), dtype=torch.int8, shape=x.shape)
        return symbolic("DequantizeLinear", (q, *numbers), dtype=torch.float32, shape=x.shape)
