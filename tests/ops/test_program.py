"""Calls of the kernels that are written down and made again."""

import pytest
import torch

from workbench.ops import native
from workbench.ops.program import Program, pointers_of
from workbench.ops.structs import FUNCTIONS, INPUT, OUTPUT, pointers
from workbench.ops.weights import by_panel

pytestmark = pytest.mark.skipif(
    native.status().problem is not None, reason="no native kernels here"
)
ROWS, COLUMNS = 20, 64


@pytest.fixture(scope="module")
def weight() -> native.Weight:
    g = torch.Generator().manual_seed(0)
    values = torch.randint(-127, 128, (ROWS, COLUMNS), generator=g, dtype=torch.int8)
    return native.Weight(native.pack(values, 8), by_panel(torch.rand(ROWS, 1)), None, ROWS)


def multiplied(x: torch.Tensor, weight: native.Weight, bits: int = 8) -> torch.Tensor:
    return native.linears(x, [weight], bits, COLUMNS, None, None, 1)[0]


def test_pointers_are_where_the_header_has_them():
    """x, multiplier and step; of each output the weights, scale, zero point, bias and y."""
    assert pointers(INPUT, INPUT.size) == [8 * i for i in (0, 7, 9)]
    of_one = [8 * i for i in (0, 2, 4, 6, 9)]
    assert pointers(OUTPUT, 2 * OUTPUT.size) == of_one + [OUTPUT.size + at for at in of_one]
    assert [struct.size for struct in FUNCTIONS["wb_source_linears"]] == [120, 96, 88]


def test_calls_are_made_again_elsewhere(weight):
    x, other, out = torch.randn(3, COLUMNS), torch.randn(3, COLUMNS), torch.empty(3, ROWS)
    with native.recording() as calls:
        y = multiplied(x, weight)
        multiplied(y.new_zeros(3, COLUMNS), weight)
    elsewhere = {x.data_ptr(): other.data_ptr(), y.data_ptr(): out.data_ptr()}
    program = Program()
    found = list(pointers_of(*calls[0]))
    program.add(*calls[0])
    for place, pointer in found:
        program.point(place, elsewhere.get(pointer, pointer))
    program.prepare()
    program.run()
    assert len(calls) == 2
    assert torch.equal(out, multiplied(other, weight))
    assert not torch.equal(out, y)


def test_a_call_that_fails_is_named(weight):
    x = torch.randn(3, COLUMNS)
    with native.recording() as calls:
        y = multiplied(x, weight)
        with pytest.raises(RuntimeError):
            multiplied(x, weight, bits=3)
    program = Program()
    for one in calls:
        program.add(*one)
    program.prepare()
    with pytest.raises(RuntimeError, match="call 2 of 2"):
        program.run()
    assert y.isfinite().all()
