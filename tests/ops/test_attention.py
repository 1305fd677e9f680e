"""Native attention against torch's in double precision."""

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from workbench.ops import native
from workbench.ops.attention import attention_native

pytestmark = pytest.mark.skipif(
    native.status().problem is not None, reason="no native kernels here"
)
LEVELS = [name for name, obstacle in native.status().levels if obstacle is None]
ROUNDING = {torch.float32: 2**-20, torch.bfloat16: 2**-8, torch.float16: 2**-11}
SHAPES = {  # batch, heads, heads of keys, queries, keys, depth, depth of values
    "one": (1, 1, 1, 1, 1, 1, 1),
    "odd": (2, 3, 3, 5, 7, 9, 17),
    "encoder": (1, 3, 3, 61, 61, 32, 32),
    "grouped": (1, 6, 2, 33, 40, 64, 64),
    "decoding": (2, 8, 2, 1, 70, 64, 64),
    "deep": (1, 2, 1, 26, 130, 80, 48),
    "one head of many": (1, 5, 1, 30, 30, 16, 16),
}


@pytest.fixture(params=LEVELS)
def level(request):
    before = native.status().level
    native.set_level(request.param)
    yield
    native.set_level(before)


def heads(shape, dtype=torch.float32, seed=0):
    batch, count, kv_count, queries, keys, depth, value_depth = shape
    g = torch.Generator().manual_seed(seed)

    def made(tokens, n, width):  # as a projection leaves them
        x = torch.randn(batch, tokens, n, width, generator=g)
        return x.transpose(1, 2).to(dtype)

    return (
        made(queries, count, depth),
        made(keys, kv_count, depth),
        made(keys, kv_count, value_depth),
    )


def expected(query, key, value, mask=None, causal=False, scale=None):
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.double().repeat_interleave(repeats, 1) for x in (key, value))
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.double()
    return scaled_dot_product_attention(
        query.double(), key, value, attn_mask=mask, is_causal=causal, scale=scale
    )


def check(found, truth, values, dtype):
    """Within rounding of the output, which no value of attention exceeds."""
    tolerance = ROUNDING[dtype] * values.abs().max().item()
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), truth, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_as_torch(level, shape, dtype):
    query, key, value = heads(shape, dtype)
    found = attention_native(query, key, value)
    assert found.transpose(1, 2).is_contiguous()
    check(found, expected(query, key, value), value, dtype)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", ["bool", "float", "by head", "causal", "strided"])
def test_masks(level, shape, kind):
    query, key, value = heads(shape)
    batch, count, _, queries, keys, *_ = shape
    g = torch.Generator().manual_seed(1)
    masks = {
        "bool": (torch.rand(batch, 1, queries, keys, generator=g) > 0.4).index_fill_(
            -1, torch.tensor([0]), True
        ),
        "float": torch.randn(batch, 1, 1, keys, generator=g),
        "by head": torch.randn(1, count, queries, keys, generator=g),
        "causal": None,
        "strided": torch.randn(keys, queries, generator=g).t(),
    }
    causal = kind == "causal"
    found = attention_native(query, key, value, masks[kind], causal, 0.3)
    check(found, expected(query, key, value, masks[kind], causal, 0.3), value, torch.float32)


def test_keys_beyond_the_last_that_is_allowed_are_not_read(level):
    query, key, value = heads((1, 4, 2, 3, 50, 16, 16))
    allowed = torch.zeros(1, 1, 3, 50, dtype=torch.bool)
    allowed[..., :21] = True
    key[:, :, 21:], value[:, :, 21:] = math.nan, math.nan
    found = attention_native(query, key, value, allowed)
    check(found, expected(query, key[:, :, :21], value[:, :, :21]), value[:, :, :21], torch.float32)


def test_a_query_that_sees_nothing_gives_zeros_as_in_torch(level):
    query, key, value = heads((1, 2, 2, 4, 20, 16, 16))
    allowed = torch.ones(1, 1, 4, 20, dtype=torch.bool)
    allowed[:, :, 2] = False
    found = attention_native(query, key, value, allowed)
    assert found[:, :, 2].abs().max() == 0
    check(
        found,
        scaled_dot_product_attention(query, key, value, allowed).double(),
        value,
        torch.float32,
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("queries", [3, 40])
def test_a_query_that_is_no_number_spoils_only_itself(level, bad, queries):
    query, key, value = heads((1, 2, 2, queries, 40, 16, 16))
    clean = attention_native(query, key, value)
    query[0, 1, 2, 5] = bad
    found = attention_native(query, key, value)
    assert found[0, 1, 2].isnan().all()
    found[0, 1, 2] = clean[0, 1, 2]
    assert torch.equal(found, clean)


@pytest.mark.parametrize("threads", range(1, 9))
def test_every_number_of_threads_gives_the_same_bits(threads):
    query, key, value = heads((1, 6, 3, 64, 200, 64, 64))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    one = attention_native(query, key, value)
    torch.set_num_threads(threads)
    many = attention_native(query, key, value)
    torch.set_num_threads(before)
    assert torch.equal(one, many)


def test_empty():
    query, key, value = heads((0, 2, 2, 3, 4, 16, 16))
    assert attention_native(query, key, value).shape == (0, 2, 3, 16)
    query, key, value = heads((1, 2, 2, 3, 0, 16, 16))
    assert attention_native(query, key, value).abs().sum() == 0
