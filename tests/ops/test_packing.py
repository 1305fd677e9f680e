"""Packed integers: a stream of bits, written out in Python's own integers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.ops.packing import pack, packed_words, unpack

BITS = [2, 3, 4, 6, 8]


@st.composite
def rows(draw):
    bits, columns = draw(st.sampled_from(BITS)), draw(st.integers(0, 70))
    value = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    count = draw(st.integers(0, 3))
    row = st.lists(value, min_size=columns, max_size=columns)
    return bits, columns, draw(st.lists(row, min_size=count, max_size=count))


@given(rows())
def test_packing_is_a_stream_of_bits_and_undone_exactly(case):
    bits, columns, values = case
    tensor = torch.tensor(values, dtype=torch.int8).view(len(values), columns)
    words = pack(tensor, bits)
    assert words.dtype == torch.int32
    assert words.shape == (len(values), -(-columns * bits // 32))
    assert packed_words(columns, bits) == words.shape[1]
    for row, packed in zip(values, words.tolist(), strict=True):
        stream = sum((v + 2 ** (bits - 1)) << (bits * i) for i, v in enumerate(row))
        assert sum((word & 0xFFFFFFFF) << (32 * i) for i, word in enumerate(packed)) == stream
    assert torch.equal(unpack(words, bits, columns), tensor)


def test_compressed_tensors_golden_vector():
    values = torch.tensor([[-8, -7, 0, 1, 2, 7, -1, 3]], dtype=torch.int8)
    assert pack(values, 4).tolist() == [[-1208313840]]


@pytest.mark.parametrize("bits", BITS)
def test_leading_dimensions_are_kept(bits):
    values = torch.randint(-2, 2, (2, 3, 11), dtype=torch.int8)
    words = pack(values, bits)
    assert words.shape == (2, 3, packed_words(11, bits))
    assert torch.equal(unpack(words, bits, 11), values)
    assert torch.equal(unpack(words.mT.contiguous().mT, bits, 11), values), "strides do not matter"
