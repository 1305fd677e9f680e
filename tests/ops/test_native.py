"""The native kernels, at every level this machine has, against the references bit for bit."""

import os
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.ops import native
from workbench.ops.digits import finish, multiply, to_digits
from workbench.ops.weights import by_panel, by_row

pytestmark = pytest.mark.skipif(
    native.status().problem is not None, reason="no native kernels here"
)
LEVELS = [name for name, obstacle in native.status().levels if obstacle is None]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=LEVELS)
def level(request) -> Iterator[str]:
    before = native.status().level
    native.set_level(request.param)
    yield request.param
    assert before is not None
    native.set_level(before)


def random_layer(rows, columns, bits, groups, affine, seed=0):
    g = torch.Generator().manual_seed(seed)
    low = 2 ** (bits - 1)
    values = torch.randint(-low, low, (rows, columns), generator=g, dtype=torch.int8)
    scale = torch.rand(groups, rows, generator=g).add(0.1).t()
    point = None
    if affine == "whole":
        point = torch.randint(-low, low, (groups, rows), generator=g, dtype=torch.int8).t()
    elif affine == "fractional":
        point = torch.randn(groups, rows, generator=g).t()
    return values, scale, point


def packed(values, bits, scale, point, bias=None, activation="none"):
    """A layer as the kernels take it."""
    data, middle = native.pack(values, bits), None if point is None else by_panel(point)
    return native.Weight(data, by_panel(scale), middle, len(values), bias, activation)


def computed(x, values, scale, point, bits, bias=None, step=None, multiplier=None, digits=1):
    weight = packed(values, bits, scale, point, bias)
    return native.linears(x, [weight], bits, values.shape[1], step, multiplier, digits)[0]


def expected(x, values, scale, point, bias=None, step=None, multiplier=None, digits=1):
    parts, found_step = to_digits(x.reshape(-1, values.shape[1]), step, multiplier, digits)
    return finish(multiply(parts, values, scale, point), found_step, bias, x)


@pytest.mark.parametrize("bits", native.BITS)
@pytest.mark.parametrize("shape", [(1, 1), (16, 64), (17, 65), (50, 100), (3, 8)])
def test_packing_can_be_undone(bits, shape):
    values, _, _ = random_layer(*shape, bits, 1, None)
    assert torch.equal(native.unpack(native.pack(values, bits), bits, *shape), values)


def test_packing_what_is_not_contiguous():
    values, _, _ = random_layer(4096, 4096, 8, 1, None)
    data = native.pack(values.t(), 8)
    assert torch.equal(native.unpack(data, 8, 4096, 4096), values.t())


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_numbers_in_panels(rows, dtype):
    numbers = torch.arange(rows * 3).view(rows, 3).to(dtype)
    panels = by_panel(numbers)
    assert panels.shape == (-(-rows // 16), 3, 16)
    assert panels.is_contiguous()
    for row in range(rows):
        assert torch.equal(panels[row // 16, :, row % 16], numbers[row])
    assert torch.equal(by_row(panels, rows), numbers)
    one = torch.ones(1)
    assert by_panel(one) is one


def test_numbers_that_are_not_in_panels_are_refused():
    values, scale, point = random_layer(20, 64, 8, 1, None)
    weight = packed(values, 8, scale, point)._replace(scale=scale)
    with pytest.raises(RuntimeError, match=r"scales in panels, not \[20, 1\]"):
        native.linears(torch.randn(3, 64), [weight], 8, 64, None, None, 1)


@pytest.mark.parametrize("bits", native.BITS)
def test_packed_weights_take_the_bytes_their_bits_say(bits):
    rows, columns = 512, 1024
    values, _, _ = random_layer(rows, columns, bits, 1, None)
    assert native.pack(values, bits).numel() == rows * columns * bits // 8 + 1024  # one tile


@pytest.mark.parametrize("bits", native.BITS)
@pytest.mark.parametrize("digits", [1, 2, 3])
def test_every_number_of_rows(level, bits, digits):
    values, scale, point = random_layer(50, 160, bits, 5, None)
    x = torch.randn(70, 160)
    whole = computed(x, values, scale, point, bits, digits=digits)
    assert torch.equal(whole, expected(x, values, scale, point, digits=digits))
    for m in range(70):
        part = computed(x[:m], values, scale, point, bits, digits=digits)
        assert torch.equal(part, whole[:m]), m


@given(
    rows=st.integers(1, 70),
    size=st.integers(1, 40),
    groups=st.integers(1, 5),
    m=st.integers(0, 40),
    bits=st.sampled_from(native.BITS),
    digits=st.integers(1, 3),
    affine=st.sampled_from([None, "whole", "fractional"]),
    dtype=st.sampled_from(DTYPES),
    static=st.booleans(),
    threads=st.integers(1, 8),
    seed=st.integers(0, 999),
    which=st.sampled_from(LEVELS),
)
@settings(max_examples=300, deadline=None)
def test_any_layer(
    rows, size, groups, m, bits, digits, affine, dtype, static, threads, seed, which
):
    line = 32 // bits
    size = size * line if groups > 1 else size
    values, scale, point = random_layer(rows, size * groups, bits, groups, affine, seed)
    x = torch.randn(m, size * groups, generator=torch.Generator().manual_seed(seed)).to(dtype)
    bias = torch.randn(rows).to(dtype) if seed % 2 else None
    multiplier = torch.rand(size * groups if seed % 3 else 1) + 0.5
    step = torch.tensor([0.03]) if static and digits == 1 else None
    if step is not None:
        multiplier = multiplier / step
    before, threads_before = native.status().level, torch.get_num_threads()
    native.set_level(which)
    torch.set_num_threads(threads)
    try:
        found = computed(x, values, scale, point, bits, bias, step, multiplier, digits)
    finally:
        native.set_level(before)
        torch.set_num_threads(threads_before)
    assert torch.equal(found, expected(x, values, scale, point, bias, step, multiplier, digits))


@pytest.mark.parametrize("bits", native.BITS)
def test_extremes(level, bits):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    values = torch.full((33, 4096), low, dtype=torch.int8)
    values[1::2] = high
    scale, one = torch.ones(33, 1), torch.ones(1)
    for ends in (-1e9, 1e9):
        x = torch.full((18, 4096), ends)
        found = computed(x, values, scale, None, bits, None, one, one)
        digit = -128 if ends < 0 else 127
        assert (found[:, 0::2] == digit * low * 4096).all()
        assert (found[:, 1::2] == digit * high * 4096).all()


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("digits", [1, 2, 3])
def test_a_row_with_no_number_spoils_no_other(level, bad, digits):
    values, scale, point = random_layer(40, 96, 4, 3, None)
    x = torch.randn(20, 96)
    clean = computed(x, values, scale, point, 4, digits=digits)
    x[7, 95] = bad
    found = computed(x, values, scale, point, 4, digits=digits)
    assert found[7].isnan().all()
    others = torch.arange(20) != 7
    assert torch.equal(found[others], clean[others])


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_rows_of_zeros_and_subnormal_numbers(level, digits):
    values, scale, point = random_layer(20, 64, 8, 1, None)
    x = torch.zeros(3, 64)
    x[1], x[2] = 1e-40, torch.randn(64) * 1e30
    found = computed(x, values, scale, point, 8, digits=digits)
    assert (found[0] == 0).all()
    assert torch.equal(found, expected(x, values, scale, point, digits=digits))


def test_rows_that_are_apart_in_memory_and_leading_dimensions(level):
    values, scale, point = random_layer(20, 64, 8, 1, None)
    wide = torch.randn(6, 200)
    for x in (wide[:, 10:74], torch.randn(64, 9).t(), torch.randn(2, 3, 64), torch.randn(64)):
        found = computed(x, values, scale, point, 8)
        assert found.shape == (*x.shape[:-1], 20)
        assert torch.equal(found, expected(x, values, scale, point))


def test_several_layers_of_one_input_are_each_as_if_alone(level):
    x = torch.randn(37, 96)
    layers = [random_layer(rows, 96, 4, 3, "whole", rows) for rows in (50, 16, 1)]
    weights = [packed(values, 4, scale, point) for values, scale, point in layers]
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        try:
            found = native.linears(x, weights, 4, 96, None, None, 1)
        finally:
            torch.set_num_threads(1)
        for y, (values, scale, point) in zip(found, layers, strict=True):
            assert torch.equal(y, expected(x, values, scale, point))


def test_one_scale_for_all(level):
    values, _, _ = random_layer(20, 64, 8, 1, None)
    x, scale = torch.randn(5, 64), torch.tensor([0.3])
    assert torch.equal(computed(x, values, scale, None, 8), expected(x, values, scale, None))


FUNCTIONS = {
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activation_functions(level, name):
    values = torch.zeros(4001, 16, dtype=torch.int8)
    bias = torch.linspace(-30, 30, 4001)
    weight = packed(values, 8, torch.ones(4001, 1), None, bias, name)
    (found,) = native.linears(torch.ones(1, 16), [weight], 8, 16, None, None, 1)
    exact = FUNCTIONS[name](bias.double())
    assert (found[0].double() - exact).abs().max() < 2e-6
    weight = weight._replace(bias=torch.full_like(bias, -3e38))
    (low,) = native.linears(torch.ones(1, 16), [weight], 8, 16, None, None, 1)
    assert low.abs().max() < 1e-30


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", native.BITS)
def test_embedding_rows(bits, dtype):
    values, scale, point = random_layer(50, 64, bits, 2, "whole")
    ids = torch.randint(0, 50, (3, 4))
    in_panels = (*packed(values, bits, scale, point)[:3], bits, 50, 64, dtype)
    found = torch.ops.workbench.embedding_native(ids, *in_panels)
    by_rows = (values, scale, point, bits, 50, 64, dtype)
    assert torch.equal(found, torch.ops.workbench.embedding_indexed(ids, *by_rows))
    with pytest.raises(IndexError, match="50 rows"):
        native.embedding(torch.tensor([50]), *in_panels)


def test_two_python_threads_at_once(level):
    values, scale, point = random_layer(300, 512, 4, 4, None)
    weight = packed(values, 4, scale, point)
    inputs = [torch.randn(40, 512) for _ in range(2)]
    right = [expected(x, values, scale, point) for x in inputs]
    wrong = []

    def work(x: torch.Tensor, y: torch.Tensor) -> None:
        for _ in range(50):
            (found,) = native.linears(x, [weight], 4, 512, None, None, 1)
            wrong.append(not torch.equal(found, y))

    workers = [threading.Thread(target=work, args=pair) for pair in zip(inputs, right, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(wrong) == 100
    assert not any(wrong)


def test_a_size_that_the_kernels_cannot_do_is_refused():
    with pytest.raises(RuntimeError, match="refuse 8 x 12 weights of 4 bits"):
        torch.ops.workbench.a8_linear_native(
            torch.ones(1, 12), torch.zeros(4096, dtype=torch.uint8), torch.ones(1, 3, 16),
            None, 4, 8, 12,
        )  # fmt: skip


def test_inputs_of_another_width_or_device_are_refused():
    values, scale, point = random_layer(20, 64, 8, 1, None)
    for x in (torch.randn(3, 65), torch.randn(3, 63), torch.tensor(1.0)):
        with pytest.raises(RuntimeError, match=r"inputs \[\.\.\., 64\] on the CPU"):
            computed(x, values, scale, point, 8)
    with pytest.raises(RuntimeError, match="on meta"):
        computed(torch.randn(3, 64, device="meta"), values, scale, point, 8)


def test_double_precision_is_computed_in_single():
    values, scale, point = random_layer(20, 64, 8, 1, None)
    x, bias = torch.randn(3, 64), torch.randn(20)
    found = computed(x.double(), values, scale, point, 8, bias.double())
    assert found.dtype == torch.float64
    assert torch.equal(found.float(), computed(x, values, scale, point, 8, bias))


def test_a_level_that_is_not_there_is_refused():
    with pytest.raises(WorkbenchError, match="no such level"):
        native.set_level("avx1024")


def test_the_fastest_level_is_used_unless_the_environment_says_otherwise():
    asked = os.environ.get("WORKBENCH_KERNELS")
    assert native.status().level == (asked or LEVELS[-1])
