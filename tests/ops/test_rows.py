"""Rows computed before quantization: norms and products against torch, layers bit for bit."""

import math

import pytest
import torch
from torch.nn import functional

from workbench.ops import native
from workbench.ops.rotary import rotary_native
from workbench.ops.rows import rows_native
from workbench.ops.weights import by_panel

pytestmark = pytest.mark.skipif(
    native.status().problem is not None, reason="no native kernels here"
)
LEVELS = [name for name, obstacle in native.status().levels if obstacle is None]
EPSILON = {torch.float32: 2**-21, torch.bfloat16: 2**-8, torch.float16: 2**-11}
NO_LAYERS = ([], [], [], 8, [], [], [], 1)


@pytest.fixture(params=LEVELS)
def level(request):
    before = native.status().level
    native.set_level(request.param)
    yield
    native.set_level(before)


def numbers(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def check(found, truth, dtype):
    assert found.dtype == dtype
    scale = truth.abs().max().item()
    torch.testing.assert_close(found.double(), truth, rtol=0, atol=EPSILON[dtype] * 4 * scale)


@pytest.mark.parametrize("dtype", EPSILON, ids=str)
@pytest.mark.parametrize("columns", [1, 15, 16, 50, 768])
@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_norm_of_a_sum(level, kind, columns, dtype):
    x, other = numbers(2, 5, columns, dtype=dtype), numbers(2, 5, columns, dtype=dtype, seed=1)
    gain, bias = numbers(columns, seed=2), numbers(columns, seed=3)
    given = (other, gain, bias if kind == "layer_norm" else None, 1e-3, False)
    y, total = rows_native(x, kind, *given, True, *NO_LAYERS)
    assert torch.equal(total, x + other)
    wide = total.double()
    truth = {
        "layer_norm": lambda: functional.layer_norm(
            wide, (columns,), gain.double(), bias.double(), 1e-3
        ),
        "rms_norm": lambda: functional.rms_norm(wide, (columns,), gain.double(), 1e-3),
    }
    check(y, truth[kind](), dtype)


def test_rounding_before_the_gain_as_llama_does(level):
    x, gain = numbers(7, 50, dtype=torch.bfloat16), numbers(50, dtype=torch.bfloat16, seed=1)
    wide = x.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
    [y] = rows_native(x, "rms_norm", None, gain, None, 1e-6, True, False, *NO_LAYERS)
    different = (y != gain * normed.bfloat16()).float().mean()
    assert different < 0.02  # where the norm itself is a rounding apart


@pytest.mark.parametrize("dtype", EPSILON, ids=str)
def test_product(level, dtype):
    x, other = numbers(3, 70, dtype=dtype)[:, 5:], numbers(3, 65, dtype=dtype, seed=1)
    [y] = rows_native(x, "product", other, None, None, 0.0, False, False, *NO_LAYERS)
    assert torch.equal(y, x * other)


def test_rows_of_zeros_and_rows_without_numbers(level):
    x = numbers(4, 33)
    gain = torch.ones(33)
    [clean] = rows_native(x, "layer_norm", None, gain, None, 1e-5, False, False, *NO_LAYERS)
    x[1], x[2, 7] = 0, math.nan
    [y] = rows_native(x, "layer_norm", None, gain, None, 1e-5, False, False, *NO_LAYERS)
    assert (y[1] == 0).all()
    assert y[2].isnan().all()
    assert torch.equal(y[[0, 3]], clean[[0, 3]])


@pytest.mark.parametrize("dtype", EPSILON, ids=str)
@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_layers_compute_what_they_do_alone(level, count, digits, dtype):
    columns, rows = 96, [50, 16]
    x, other = numbers(count, columns, dtype=dtype), numbers(count, columns, dtype=dtype, seed=1)
    weights = []
    for index, n in enumerate(rows):
        g = torch.Generator().manual_seed(index)
        values = torch.randint(-8, 8, (n, columns), generator=g, dtype=torch.int8)
        scale = by_panel(torch.rand(n, 3, generator=g))
        weights.append(native.Weight(native.pack(values, 4), scale, None, n, numbers(n), "relu"))
    packed, scales, points, _, biases, functions = (list(x) for x in zip(*weights, strict=True))
    layers = (packed, scales, points, 4, rows, biases, functions, digits)
    y, total, *found = rows_native(x, "layer_norm", other, None, None, 1e-5, False, True, *layers)
    alone, sum_alone = rows_native(
        x, "layer_norm", other, None, None, 1e-5, False, True, *NO_LAYERS
    )
    assert torch.equal(y, alone)
    assert torch.equal(total, sum_alone)
    expected = native.linears(y, weights, 4, columns, None, None, digits)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("threads", range(1, 9))
def test_every_number_of_threads_gives_the_same_bits(threads):
    x = numbers(100, 700)
    before = torch.get_num_threads()
    found = []
    for count in (1, threads):
        torch.set_num_threads(count)
        found += rows_native(x, "rms_norm", None, None, None, 0.1, False, False, *NO_LAYERS)
    torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", EPSILON, ids=str)
@pytest.mark.parametrize("depth", [2, 16, 50, 64])
def test_rotary_embeddings(level, depth, dtype):
    query = numbers(2, 9, 4, depth, dtype=dtype).transpose(1, 2)
    key = numbers(2, 9, 1, depth, dtype=dtype, seed=1).transpose(1, 2)
    angles = numbers(1, 9, depth, seed=2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    for x, found in zip((query, key), rotary_native([query, key], cos, sin), strict=True):
        a, b = x.double().chunk(2, -1)
        turned = torch.cat((-b, a), -1)
        truth = x.double() * cos.double().unsqueeze(1) + turned * sin.double().unsqueeze(1)
        check(found, truth, dtype)
