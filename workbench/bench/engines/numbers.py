"""Weights for engines that take constants: rounded to nearest over all of the range."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Grouped:
    """Unsigned integers [N, groups, size] as bytes; scale and zero point [N, groups, 1].

    `packed` [N, groups, size * bits / 8] holds several in each byte, the first in the low bits.
    """

    values: Bytes
    scale: Floats
    zero_point: Bytes
    bits: int

    @property
    def packed(self) -> Bytes:
        """The values, packed."""
        return pack(self.values, self.bits)


def per_channel(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Int8 [N, K] and scale [N, 1] of `weight` [N, K], symmetric."""
    scale = np.maximum(np.abs(weight).max(1, keepdims=True), 1e-30) / np.float32(127)
    return np.rint(weight / scale).astype(np.int8), scale


def grouped(weight: Floats, bits: int, size: int) -> Grouped:
    """`weight` [N, K] in groups of `size` inputs, affine."""
    top = 2**bits - 1
    blocks = weight.reshape(len(weight), -1, size)
    low = np.minimum(blocks.min(-1, keepdims=True), 0)
    high = np.maximum(blocks.max(-1, keepdims=True), 0)
    scale = np.maximum((high - low) / np.float32(top), np.float32(1e-30))
    point = np.clip(np.rint(-low / scale), 0, top)
    values = np.clip(np.rint(blocks / scale) + point, 0, top)
    return Grouped(values.astype(np.uint8), scale, point.astype(np.uint8), bits)


def pack(values: Bytes, bits: int) -> Bytes:
    """Pack [..., n] into bytes [..., ceil(n * bits / 8)], the first value in the low bits."""
    each = 8 // bits
    rest = -values.shape[-1] % each
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, rest)])
    shifts = np.arange(each, dtype=np.uint8) * np.uint8(bits)
    parts = padded.reshape(*padded.shape[:-1], -1, each) << shifts
    return np.bitwise_or.reduce(parts, axis=-1).astype(np.uint8)
