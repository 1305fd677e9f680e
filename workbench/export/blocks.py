"""Our integers as GGUF's blocks of 32: the same integers, each scale rounded to float16.

A block has a scale of its own, so that weights per channel, or in groups of a multiple of 32, fit
without being quantized again: the blocks of a group repeat its scale. Layouts: llama.cpp,
`ggml-common.h`, `block_q8_0`, `block_q4_0`, `block_q4_1`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.export.base import refuse
from workbench.quant import QModule

SIZE = 32
Bytes = NDArray[np.uint8]
Blocks = NDArray[Any]  # [rows, blocks, ...]


def kind_of(name: str, module: QModule) -> str:
    """The block type that holds the weight of the layer `name`; raises WorkbenchError for none."""
    w = module.weights
    if w is None or module.input_transform is not None or module.outputs is not None:
        raise refuse(
            name,
            f"({type(module).__name__}) rounds outputs, or multiplies its inputs by what smoothing "
            "could not fold",
            "GGUF has no tensor for that",
            "leave outputs in float, and smooth only where it folds",
        )
    kind = _kinds.get((w.dtype, w.symmetric))
    if kind is None:
        raise refuse(
            name,
            f"has {'symmetric' if w.symmetric else 'affine'} {w.dtype} weights",
            "GGUF's simple blocks hold symmetric int8 (Q8_0) and int4 (Q4_0), and affine int4 "
            "(Q4_1)",
            "quantize it to one of these",
        )
    columns = module.shapes["weight"][-1]
    size = module.args_of("weight").group_size or columns
    if size % SIZE or columns % SIZE:
        raise refuse(
            name,
            f"has scales for {size} of its {columns} inputs each",
            f"GGUF's blocks are {SIZE} inputs long",
            f"give a group_size that is a multiple of {SIZE}",
        )
    scale = module.stored().scale
    if scale.max() > np.finfo(np.float16).max:
        raise refuse(name, "has a scale beyond 65504", "GGUF's scales are float16", "leave it out")
    return kind


def blocks(kind: str, module: QModule) -> Bytes:
    """The weight of a layer as blocks of `kind`, [rows, bytes]."""
    stored = module.stored()
    values = stored.integers().numpy().astype(np.int16)
    rows = len(values)
    values = values.reshape(rows, -1, SIZE)
    count = values.shape[1]

    def spread(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        """One number for each block, [rows, blocks]."""
        table = np.broadcast_to(numbers.reshape(-1, numbers.shape[-1]), (rows, numbers.shape[-1]))
        return table.repeat(count // table.shape[1], axis=1)

    scale = spread(stored.scale.float().numpy())
    point = None if stored.zero_point is None else spread(stored.zero_point.float().numpy())
    parts = _parts[kind](values, scale, point)
    made = [np.ascontiguousarray(part).view(np.uint8) for part in parts]
    return np.concatenate(made, axis=-1).reshape(rows, -1)


def _q8_0(values: Blocks, scale: Blocks, point: Blocks | None) -> tuple[Blocks, ...]:
    del point
    return scale.astype(np.float16)[..., None], values.astype(np.int8)


def _q4_0(values: Blocks, scale: Blocks, point: Blocks | None) -> tuple[Blocks, ...]:
    del point
    return scale.astype(np.float16)[..., None], _nibbles(values)


def _q4_1(values: Blocks, scale: Blocks, point: Blocks | None) -> tuple[Blocks, ...]:
    """Value = scale * nibble + minimum."""
    assert point is not None
    minimum = -(point + 8) * scale
    return (
        scale.astype(np.float16)[..., None],
        minimum.astype(np.float16)[..., None],
        _nibbles(values),
    )


def _nibbles(values: Blocks) -> Blocks:
    """The first half of a block in the low nibbles, the second in the high ones."""
    nibbles = (values + 8).astype(np.uint8)
    low, high = nibbles[..., : SIZE // 2], nibbles[..., SIZE // 2 :]
    return low | high << 4


_kinds = {("int8", True): "Q8_0", ("int4", True): "Q4_0", ("int4", False): "Q4_1"}
_parts: Mapping[str, Callable[[Blocks, Blocks, Blocks | None], tuple[Blocks, ...]]] = {
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
}
