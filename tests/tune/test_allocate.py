"""The allocation against brute force, and what it refuses."""

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.quant import QuantArgs
from workbench.tune import Budget, Damage, Sensitivity, allocate, front

BITS = {"int2": 2, "int4": 4, "int8": 8}


def table(damages, sizes, shared=()):
    """Layers a, b, c... with `damages[i][j]` for the three widths and `sizes[i]` weights."""
    names = [chr(97 + i) for i in range(len(sizes))]
    return Sensitivity(
        layers={
            name: {
                key: Damage(output=d, sqnr_db=0, task=None, bits=bits, bytes=bits * size // 8)
                for (key, bits), d in zip(BITS.items(), row, strict=True)
            }
            for name, row, size in zip(names, damages, sizes, strict=True)
        },
        candidates={key: QuantArgs(dtype=key) for key in BITS},
        parameters=dict(zip(names, sizes, strict=True)),
        shared=list(shared),
        left={},
        measure="kl",
        positions=1,
    )


rows = st.lists(st.floats(1e-9, 10), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(rows, st.integers(1, 50)), min_size=1, max_size=6), st.data())
def test_it_is_as_good_as_trying_everything(layers, data):
    damages, sizes = [r for r, _ in layers], [8 * s for _, s in layers]
    mean = data.draw(st.floats(2, 8))
    kind = data.draw(st.sampled_from(["mean_bits", "bytes"]))
    limit = mean if kind == "mean_bits" else mean * sum(sizes) / 8
    widths = list(BITS.values())

    def cost(choice):
        total = sum(widths[j] * size for j, size in zip(choice, sizes, strict=True))
        return total / sum(sizes) if kind == "mean_bits" else total / 8

    every = list(itertools.product(range(3), repeat=len(sizes)))
    assume(not any(0 < abs(cost(c) / limit - 1) < 1e-6 for c in every))  # on the edge to rounding
    best = min(
        sum(row[j] for row, j in zip(damages, c, strict=True))
        for c in every
        if cost(c) <= limit * (1 + 1e-12)
    )
    found = allocate(table(damages, sizes), Budget(kind=kind, limit=limit))
    assert found.damage == pytest.approx(best, rel=1e-6, abs=1e-6 * max(map(max, damages)))
    assert found.cost <= limit * (1 + 1e-9)


def test_layers_that_must_share_bits_do():
    damages = [[9, 1, 0], [0.1, 0.09, 0.08], [5, 4, 0]]
    budget = Budget(kind="mean_bits", limit=6)
    apart = allocate(table(damages, [8, 8, 8]), budget)
    together = allocate(table(damages, [8, 8, 8], [("a", "b")]), budget)
    assert apart.choice == {"a": "int8", "b": "int2", "c": "int8"}
    assert together.choice == {"a": "int4", "b": "int4", "c": "int8"}
    assert (apart.damage, together.damage) == (pytest.approx(0.1), pytest.approx(1.09))


def test_latency_is_what_was_given():
    damages = [[3, 2, 1], [3, 2, 1]]
    times = {name: {"int2": 1.0, "int4": 5.0, "int8": 2.0} for name in "ab"}
    found = allocate(table(damages, [8, 8]), Budget(kind="latency", limit=4), latencies=times)
    assert found.choice == {"a": "int8", "b": "int8"}  # faster than 4 bits here, and better
    assert found.cost == 4
    with pytest.raises(wb.WorkbenchError, match="needs the time of b as int2"):
        allocate(
            table(damages, [8, 8]), Budget(kind="latency", limit=4), latencies={"a": times["a"]}
        )


def test_an_impossible_budget_says_the_least_possible_and_that_fits():
    made = table([[3, 2, 1]] * 3, [8, 16, 24])
    with pytest.raises(wb.WorkbenchError, match=r"no choice .* 11 bytes: the least possible is 12"):
        allocate(made, Budget(kind="bytes", limit=11))
    assert allocate(made, Budget(kind="bytes", limit=12)).cost == 12


def test_groups_that_overlap_or_name_strangers_are_refused():
    made = table([[3, 2, 1]] * 3, [8, 8, 8])
    budget = Budget(kind="mean_bits", limit=4)
    with pytest.raises(wb.WorkbenchError, match="'b' is in two groups"):
        allocate(made, budget, shared=[("a", "b"), ("b", "c")])
    with pytest.raises(wb.WorkbenchError, match="'z' shares bits and is not"):
        allocate(made, budget, shared=[("a", "z")])


def test_the_front_falls():
    made = table([[3, 2, 1], [8, 1, 0.5], [2, 1, 0]], [8, 16, 8])
    points = front(made, [Budget(kind="mean_bits", limit=x / 2) for x in range(4, 17)])
    damages = [point.damage for point in points]
    assert damages == sorted(damages, reverse=True)
    assert damages[0] == 13
    assert damages[-1] == 1.5
