"""Frozen layers as modules that torch.onnx traces into ONNX's own quantized operators.

They carry our integers, scales, zero points and smoothing as constants; nothing is rounded anew.
Eager calls of them mean nothing.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic

from workbench.export.base import refuse
from workbench.models.loaded import share
from workbench.models.manifest import frozen_modules
from workbench.ops.packing import pack
from workbench.quant import QModule
from workbench.quant.modules.embedding import QEmbedding
from workbench.quant.modules.linear import QConv1D, QLinear
from workbench.quant.quantize import replace_module

BLOCKS = (128, 64, 32, 16)  # of inputs, in MatMulNBits
NBITS = (4, 8)


def check_layer(name: str, module: QModule) -> None:
    """Raise WorkbenchError where ONNX has no operators for what the frozen layer computes."""
    if _twin_of(module) is None:
        raise refuse(
            name,
            f"is a quantized {module.float_class.__name__}",
            "only linear layers and embeddings become quantized operators of ONNX",
            f"quantize with exclude={name!r}",
        )
    w, a = module.weights, module.activations
    assert w is not None
    if module.outputs is not None:
        raise refuse(name, "rounds its outputs", "exports round inputs only", "leave them in float")
    if w.qtype.is_float or w.qtype.bits not in NBITS:
        raise refuse(
            name,
            f"has {w.dtype} weights",
            "ONNX Runtime multiplies by integers of 8 or 4 bits",
            'quantize with weights="int8" or "int4"',
        )
    if a is not None and a.dtype != "int8":
        raise refuse(
            name, f"has {a.dtype} inputs", "ONNX Runtime's CPU kernels round to int8", "use int8"
        )
    if a is not None and a.dynamic and not a.symmetric:
        raise refuse(
            name,
            "rounds affinely as inputs come",
            "exports carry symmetric dynamic scales",
            "quantize with symmetric=True, or calibrate static ranges",
        )
    stored = module.stored()
    points = (
        ("weights", stored.zero_point, w.qtype.bits),
        ("inputs", module._buffers.get("input_zero_point"), 8),
    )
    for what, point, bits in points:
        half = 2 ** (bits - 1)
        if point is not None and not _whole(point, half):
            raise refuse(
                name,
                f"has zero points of {what} between or beyond the integers",
                "ONNX has whole zero points only",
                "quantize it symmetrically",
            )
    columns = module.shapes["weight"][1]
    if _by_channel(module) or isinstance(module, QEmbedding):
        return
    size = module.args_of("weight").group_size or columns
    if size % BLOCKS[-1]:
        raise refuse(
            name,
            f"has scales for {size} of its {columns} inputs each",
            f"MatMulNBits has blocks of {', '.join(map(str, BLOCKS))}",
            "give a group_size that is a multiple of one of these",
        )


def _whole(point: Tensor, half: int) -> bool:
    point = point.float()
    inside = bool((point >= -half).all() and (point < half).all())
    return inside and torch.equal(point, point.round())


def _by_channel(module: QModule) -> bool:
    """Whether the weight is int8 with a scale for each channel, or one for all."""
    w = module.weights
    return w is not None and w.qtype.bits == 8 and w.granularity != "group"


def traceable(model: nn.Module, nbits: bool = True) -> nn.Module:
    """A copy of the frozen `model`, sharing its tensors, with a twin for each quantized layer.

    Without `nbits` it has ONNX's own operators only, and weights of 4 bits take a byte each.
    """
    made = share(model)
    for name, module in frozen_modules(made).items():
        twin = _twin_of(module)
        assert twin is not None  # checked before
        replace_module(made, name, twin(module, nbits))
    return made.eval()


class LinearTwin(nn.Module):
    """`y = round(x * transform) W^T + b`, by QDQ, MatMulInteger or MatMulNBits."""

    weight: "_Channels | _Blocks | _Groups"
    transform: Tensor | None
    bias: Tensor | None

    def __init__(self, module: QModule, nbits: bool) -> None:
        super().__init__()
        a = module.activations
        self.register_buffer("transform", module.input_transform)
        self.register_buffer("bias", module._parameters["bias"])
        self.static = _StaticInputs(module) if module.static else None
        self.per_token = a is not None and a.granularity == "token"
        self.per_tensor = a is not None and a.dynamic and not self.per_token
        # ONNX Runtime fuses a dequantized weight with float inputs into less than float32.
        fits = module.shapes["weight"][1] % BLOCKS[-1] == 0
        if _by_channel(module) and not (nbits and a is None and fits):
            self.weight = _Channels(module)
        else:
            self.weight = _Blocks(module) if nbits else _Groups(module)
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
            if self.integer and isinstance(self.weight, _Channels):
                y = self.weight.product(whole.to(torch.int8)) * scale
            else:
                y = self.weight(whole * scale)
        return y if self.bias is None else y + self.bias


class _StaticInputs(nn.Module):
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


class _Channels(nn.Module):
    """An int8 weight [in, out] with scales [out], as ONNX Runtime fuses it with what is rounded."""

    values: Tensor
    scale: Tensor
    point: Tensor

    def __init__(self, module: QModule) -> None:
        super().__init__()
        stored = module.stored()
        values = module.oriented(stored.integers()) if module.transposed else stored.integers()
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


class _Blocks(nn.Module):
    """A weight in MatMulNBits' blocks; the blocks of a group repeat its scale and zero point."""

    values: Tensor
    scale: Tensor
    point: Tensor | None

    def __init__(self, module: QModule) -> None:
        super().__init__()
        stored = module.stored()
        values = module.oriented(stored.integers()) if module.transposed else stored.integers()
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


class _Groups(nn.Module):
    """A weight in bytes with scales for groups, which lie below each other as channels."""

    values: Tensor
    scale: Tensor
    point: Tensor

    def __init__(self, module: QModule) -> None:
        super().__init__()
        stored = module.stored()
        values = module.oriented(stored.integers()) if module.transposed else stored.integers()
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


class EmbeddingTwin(nn.Module):
    """Rows of int8, looked up and then scaled."""

    values: Tensor
    scale: Tensor
    point: Tensor | None

    def __init__(self, module: QModule, nbits: bool) -> None:
        super().__init__()
        del nbits
        stored = module.stored()
        values = stored.integers()
        self.columns = values.shape[1]
        self.register_buffer("values", values)
        groups = stored.scale.shape[-1]
        scale = stored.scale.float().reshape(-1, groups).expand(len(values), -1)
        self.register_buffer("scale", scale.contiguous())
        point = stored.zero_point
        if point is not None:
            point = point.float().reshape(-1, groups).expand(len(values), -1).contiguous()
        self.register_buffer("point", point)

    def forward(self, ids: Tensor) -> Tensor:
        groups = self.scale.shape[1]
        found = self.values[ids].float().unflatten(-1, (groups, self.columns // groups))
        if self.point is not None:
            found = found - self.point[ids].unsqueeze(-1)
        return (found * self.scale[ids].unsqueeze(-1)).flatten(-2)


_twins: Mapping[type[QModule], type[LinearTwin] | type[EmbeddingTwin]] = {
    QLinear: LinearTwin,
    QConv1D: LinearTwin,
    QEmbedding: EmbeddingTwin,
}


def _twin_of(module: QModule) -> type[LinearTwin] | type[EmbeddingTwin] | None:
    """The twin of the class of `module`, or of one it derives from and adds nothing to."""
    return next((_twins[base] for base in type(module).__mro__[:2] if base in _twins), None)
