"""The three forms that ONNX has for a quantized weight."""

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic

from workbench.ops.packing import pack
from workbench.quant import QModule

BLOCKS = (128, 64, 32, 16)  # of inputs, in MatMulNBits


def by_channel(module: QModule) -> bool:
    """Whether the weight is int8 with a scale for each channel, or one for all."""
    w = module.weights
    return w is not None and w.qtype.bits == 8 and w.granularity != "group"


def integers(module: QModule) -> Tensor:
    """Those of its weight, [out, in]."""
    found = module.stored().integers()
    return module.oriented(found) if module.transposed else found


class Channels(nn.Module):
    """An int8 weight [in, out] with scales [out], as ONNX Runtime fuses it with what is rounded."""

    values: Tensor
    scale: Tensor
    point: Tensor

    def __init__(self, module: QModule) -> None:
        super().__init__()
        stored = module.stored()
        values = integers(module)
        rows = len(values)
        point = torch.zeros(rows) if stored.zero_point is None else stored.zero_point.float()
        self.register_buffer("values", values.t().contiguous())
        self.register_buffer("scale", stored.scale.float().reshape(-1).expand(rows).contiguous())
        self.register_buffer("point", point.reshape(-1).expand(rows).to(torch.int8).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        numbers = (self.values, self.scale, self.point)
        return x @ symbolic(
            "DequantizeLinear",
            numbers,
            attrs={"axis": 1},
            dtype=torch.float32,
            shape=self.values.shape,
        )

    def product(self, q: Tensor) -> Tensor:
        """The int8 inputs times the weight, exactly, then scaled by channel."""
        shape = (*q.shape[:-1], len(self.scale))
        whole = symbolic("MatMulInteger", (q, self.values), dtype=torch.int32, shape=shape)
        return whole.float() * self.scale


class Blocks(nn.Module):
    """A weight in MatMulNBits' blocks; the blocks of a group repeat its scale and zero point."""

    values: Tensor
    scale: Tensor
    point: Tensor | None

    def __init__(self, module: QModule) -> None:
        super().__init__()
        stored = module.stored()
        values = integers(module)
        self.rows, self.columns = values.shape
        self.bits = module.args_of("weight").qtype.bits
        group = module.args_of("weight").group_size or self.columns
        self.size = next(size for size in BLOCKS if group % size == 0)
        count = self.columns // self.size

        def spread(numbers: Tensor) -> Tensor:
            table = numbers.reshape(-1, numbers.shape[-1]).expand(self.rows, -1)
            return table.repeat_interleave(count // table.shape[1], dim=1).contiguous()

        words = pack(values, self.bits).view(torch.uint8)
        self.register_buffer("values", words.view(self.rows, count, -1))
        self.register_buffer("scale", spread(stored.scale.float()))
        point = None
        if stored.zero_point is not None:
            width = -(-count * self.bits // 8)
            packed = pack(spread(stored.zero_point.to(torch.int8)), self.bits)
            point = packed.view(torch.uint8)[:, :width].contiguous()
        self.register_buffer("point", point)

    def forward(self, x: Tensor) -> Tensor:
        numbers = (self.scale,) if self.point is None else (self.scale, self.point)
        return symbolic(
            "com.microsoft::MatMulNBits",
            (x, self.values, *numbers),
            attrs={
                "K": self.columns,
                "N": self.rows,
                "bits": self.bits,
                "block_size": self.size,
                "accuracy_level": 1,  # float32: inputs that are to be rounded are already
            },
            dtype=torch.float32,
            shape=(*x.shape[:-1], self.rows),
            version=1,
        )


class Groups(nn.Module):
    """A weight in bytes with scales for groups, which lie below each other as channels."""

    values: Tensor
    scale: Tensor
    point: Tensor

    def __init__(self, module: QModule) -> None:
        super().__init__()
        stored = module.stored()
        values = integers(module)
        self.rows, self.columns = values.shape
        groups = stored.scale.shape[-1]
        scale = stored.scale.float().reshape(-1, groups).expand(self.rows, -1)
        point = torch.zeros_like(scale) if stored.zero_point is None else stored.zero_point
        self.register_buffer("values", values.reshape(self.rows * groups, -1).contiguous())
        self.register_buffer("scale", scale.flatten().contiguous())
        self.register_buffer("point", point.expand_as(scale).flatten().to(torch.int8).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        numbers = (self.values, self.scale, self.point)
        found = symbolic(
            "DequantizeLinear",
            numbers,
            attrs={"axis": 0},
            dtype=torch.float32,
            shape=self.values.shape,
        )
        return x @ found.reshape(self.rows, self.columns).t()
