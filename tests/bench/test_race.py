"""Taking turns: who is called when, and what is made of the timings."""

import itertools
import time

import pytest

from workbench.bench import race as module
from workbench.bench.race import race


def test_contenders_take_turns_and_circles_turn(monkeypatch) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0)
    monkeypatch.setattr(module, "TURN_MS", 0)  # one timed call a turn
    called: list[str] = []
    contenders = {
        "a": [lambda: called.append("a0"), lambda: called.append("a1")],
        "b": [lambda: called.append("b0")],
    }
    found = race(contenders, seconds=0, what="test", least_rounds=4)
    assert {name: timing.runs for name, timing in found.items()} == {"a": 4, "b": 4}
    # A turn is a circle that is not timed and one call that is; every other round goes backwards.
    assert "".join(name[0] for name in called[-20:]) == "aaabbbbaaaaaabbbbaaa"
    of_a = [name for name in called if name.startswith("a")]
    assert all(one != other for one, other in itertools.pairwise(of_a[2:]))


def test_the_slower_one_is_found_slower() -> None:
    found = race(
        {"fast": [lambda: None], "slow": [lambda: time.sleep(0.002)]}, seconds=0, what="test"
    )
    assert found["slow"].ms_median >= 2
    assert found["fast"].ms_median < 1
    for timing in found.values():
        assert timing.ms_min <= timing.ms_low <= timing.ms_median <= timing.ms_high
        assert timing.runs >= 5


def test_drift_is_between_odd_and_even_rounds() -> None:
    timing = module._timing([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])
    assert timing.drift == pytest.approx(1.0)
    assert timing.ms_median == pytest.approx(1.5)
    assert timing.runs == 6
