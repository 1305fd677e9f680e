"""What ONNX has operators for, and what not."""

import torch
from torch import Tensor

from workbench.export.base import refuse
from workbench.export.twins.registry import twin_of
from workbench.export.twins.weights import BLOCKS, by_channel
from workbench.quant import QModule
from workbench.quant.modules.embedding import QEmbedding

NBITS = (4, 8)


def check_layer(name: str, module: QModule) -> None:
    """Raise WorkbenchError where ONNX has no operators for what the frozen layer computes."""
    if twin_of(module) is None:
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
    if by_channel(module) or isinstance(module, QEmbedding):
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
