"""Integers of 1 to 8 bits in int32 words, laid out as a little-endian stream of bits in each row.

For 2, 4 and 8 bits this is the layout of compressed-tensors' "pack-quantized" format: of eight
consecutive int4 values the first sits in bits 0..3 of the word. Stored is q + 2^(bits-1).
"""

from math import gcd

import torch
from torch import Tensor

CHUNK = 2**15  # values packed at a time, which bounds the temporary copies


def packed_words(columns: int, bits: int) -> int:
    """How many int32 words hold a row of `columns` values."""
    return -(-columns * bits // 32)


def pack(values: Tensor, bits: int) -> Tensor:
    """Pack integers [..., columns] in [-2^(bits-1), 2^(bits-1)) into int32 [..., words]."""
    columns = values.shape[-1]
    shape = (*values.shape[:-1], packed_words(columns, bits))
    packed = torch.empty(shape, dtype=torch.int32, device=values.device)
    if values.numel() == 0:
        return packed
    rows = max(1, CHUNK // columns)
    flat, words = values.reshape(-1, columns), packed.view(-1, shape[-1])
    for part, out in zip(flat.split(rows), words.split(rows), strict=True):
        out.copy_(_pack_rows(part, bits))
    return packed


def _pack_rows(values: Tensor, bits: int) -> Tensor:
    columns = values.shape[-1]
    count, size = _unit(bits)
    units = -(-columns // count)
    unsigned = torch.nn.functional.pad(
        values.to(torch.int32) + 2 ** (bits - 1), (0, units * count - columns)
    )
    word = torch.zeros(*values.shape[:-1], units, dtype=torch.int32, device=values.device)
    grouped = unsigned.unflatten(-1, (units, count))
    for index in range(count):
        word |= grouped[..., index] << (bits * index)
    stream = torch.stack([(word >> (8 * byte)) & 0xFF for byte in range(size)], -1).flatten(-2)
    padding = 4 * packed_words(columns, bits) - stream.shape[-1]
    # A unit of padding may reach past the last word; it holds nothing.
    stream = torch.nn.functional.pad(stream, (0, padding))
    # A single row counts as contiguous whatever its stride, which a view as words must divide.
    return stream.to(torch.uint8, memory_format=torch.contiguous_format).view(torch.int32)


def unpack(words: Tensor, bits: int, columns: int) -> Tensor:
    """Undo `pack`: int8 [..., columns]."""
    count, size = _unit(bits)
    units = -(-columns // count)
    stream = words.contiguous().view(torch.uint8)
    stream = torch.nn.functional.pad(stream, (0, units * size - stream.shape[-1]))
    if size == 1:
        word = stream
    else:
        parts = stream.unflatten(-1, (units, size)).to(torch.int32)
        word = parts[..., 0]
        for byte in range(1, size):
            word = word | (parts[..., byte] << (8 * byte))
    mask, middle = 2**bits - 1, 2 ** (bits - 1)
    values = torch.stack([(word >> (bits * i)) & mask for i in range(count)], -1).flatten(-2)
    return values[..., :columns].to(torch.int8) - middle


def _unit(bits: int) -> tuple[int, int]:
    """The smallest run of values that fills whole bytes: how many values, how many bytes."""
    common = gcd(8, bits)
    return 8 // common, bits // common
