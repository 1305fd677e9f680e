"""Allocations that are tried: never worse than what they start from, and as good as they say."""

import copy
import itertools
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.metrics import kl_divergence
from workbench.progress import Cancelled, reporting
from workbench.tune import refine, sensitivity
from workbench.tune.program import Program
from workbench.tune.refine import Search

BUDGET = wb.Budget(kind="mean_bits", limit=4)


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(5)
    return [{"input_ids": torch.randint(0, 97, (2, 20), generator=generator)} for _ in range(3)]


@pytest.fixture
def found(tiny_llama, batches):
    return sensitivity(tiny_llama, batches)


def program(damage, cost):
    units = [[chr(97 + i)] for i in range(len(cost))]
    keys = [f"k{i}" for i in range(cost.shape[1])]
    return Program(units, keys, cost, damage)


def searched(made, limit, measure, trials=1000):
    search = Search(made, limit, measure, trials)
    start = made.solve(made.damage, limit)
    search.damage(start)
    return search, start, search.descend(start)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 4), st.integers(1, 60))
def test_it_keeps_to_the_budget_and_to_its_trials_and_never_gets_worse(seed, rows, columns, trials):
    """Damage that does not add up: the squared length of a sum of vectors, one for each layer."""
    rng = np.random.default_rng(seed)
    cost = rng.uniform(1, 4, (rows, 1)) * np.arange(1, columns + 1)
    vectors = rng.normal(size=(rows, columns, 3)) / 2.0 ** np.arange(columns).reshape(1, -1, 1)
    limit = float(rng.uniform(cost.min(1).sum(), cost.max(1).sum()))
    calls = []

    def measure(picked):
        calls.append(picked)
        return float(np.square(vectors[range(rows), picked].sum(0)).sum())

    made = program(np.square(vectors).sum(2), cost)
    search, start, best = searched(made, limit, measure, trials)
    assert made.cost_of(best) <= limit * (1 + 1e-9)
    assert search.seen[best] <= search.seen[start]
    assert len(calls) == len(set(calls)) <= trials
    again, _, same = searched(made, limit, measure, trials)
    assert (again.seen, same) == (search.seen, best)


def test_layers_whose_errors_cancel_are_found():
    """By prediction c is worst and gets the bits; measured, a and b undo each other at 2 bits."""
    cost = np.array([[2.0, 4.0, 8.0]] * 3)
    errors = np.array([[3.0, 1.5, 0.1], [-3.0, 1.5, 0.1], [2.0, 1.0, 0.0]])

    def measure(picked):
        a, b, c = errors[range(3), picked]
        return (a + b) ** 2 + c**2

    made = program(errors**2, cost)
    _, start, best = searched(made, 14, measure)
    able = (p for p in itertools.product(range(3), repeat=3) if made.cost_of(p) <= 14)
    assert measure(best) == min(map(measure, able)) == 0
    assert measure(start) > 1


def test_what_it_says_is_what_the_rounded_model_does(tiny_llama, batches, found):
    made = refine(tiny_llama, batches, found, BUDGET)
    assert list(made.measured) == ["as predicted", "int4 per group affine for all", "refined"]
    assert made.measured["refined"] == min(made.measured.values())
    assert made.cost == pytest.approx(4)
    assert divergence(tiny_llama, made, batches) == pytest.approx(
        made.measured["refined"], rel=1e-5
    )
    predicted = wb.allocate(found, BUDGET)
    again = divergence(tiny_llama, predicted, batches)
    assert again == pytest.approx(made.measured["as predicted"], rel=1e-5)


@torch.no_grad()
def divergence(model, allocation, batches):
    """Built anew from the float model, as a session builds it."""
    rounded = copy.deepcopy(model)
    wb.quantize_mixed(rounded, allocation.weights, exclude="lm_head")
    each = [kl_divergence(model(**b).logits, rounded(**b).logits).flatten() for b in batches]
    return torch.cat(each).double().mean().item()


def test_layers_that_share_bits_move_together(tiny_llama, batches, found):
    made = refine(tiny_llama, batches, found, BUDGET)
    for names in found.shared:
        assert len({made.choice[name] for name in names}) == 1


def test_without_trials_it_is_the_prediction(tiny_llama, batches, found):
    assert refine(tiny_llama, batches, found, BUDGET, trials=0) == wb.allocate(found, BUDGET)


def test_the_model_is_left_as_it_was(tiny_llama, batches, found):
    before = {k: v.clone() for k, v in tiny_llama.state_dict().items()}
    refine(tiny_llama.train(), batches, found, BUDGET, trials=5)
    assert tiny_llama.training
    assert all(torch.equal(v, before[k]) for k, v in tiny_llama.state_dict().items())


def test_a_cancel_is_obeyed_between_two_trials(tiny_llama, batches, found):
    seen = []

    class Reporter:
        def update(self, what, done, total):
            seen.append((what, done))

        def check(self):
            if ("trying bits", 2) in seen:
                raise Cancelled

    with pytest.raises(Cancelled), reporting(Reporter()):
        refine(tiny_llama, batches, found, BUDGET)
    assert max(done for what, done in seen if what == "trying bits") == 2


def test_it_survives_its_file(tiny_llama, batches, found, tmp_path):
    made = refine(tiny_llama, batches, found, BUDGET, trials=3)
    made.save(tmp_path / "a.json")
    assert type(made).load(tmp_path / "a.json") == made


def test_few_batches_will_do_and_none_will_not(tiny_llama, batches, found, monkeypatch):
    """Of three batches of 40 tokens each, two hold 50."""
    module = sys.modules["workbench.tune.refine"]
    given = []

    class Spy(module.Trials):
        def __init__(self, model, batches, *rest, **more):
            given.append(batches)
            super().__init__(model, batches, *rest, **more)

    monkeypatch.setattr(module, "Trials", Spy)
    refine(tiny_llama, batches, found, BUDGET, trials=2, tokens=50)
    assert given == [batches[:2], batches[2:]], "to search on, and to have the last word"
    with pytest.raises(wb.WorkbenchError, match="no batches to try allocations on"):
        refine(tiny_llama, [], found, BUDGET)


def test_what_is_worse_on_other_batches_is_let_go(tiny_llama, batches, found, monkeypatch):
    """The search sees the first batch only; the others judge its two starts and its end."""
    module = sys.modules["workbench.tune.refine"]
    answers: list[float] = []

    class Scripted(module.Trials):
        def damage(self, choice):
            return answers.pop(0) if self.batches[0] is batches[1] else super().damage(choice)

    monkeypatch.setattr(module, "Trials", Scripted)
    made = {}
    for best, answers in (("start", [2, 1, 3]), ("end", [2, 3, 1])):
        made[best] = refine(tiny_llama, batches, found, BUDGET, tokens=40).measured
        assert not answers
    assert made["start"]["refined"] == made["start"]["int4 per group affine for all"]
    assert made["end"]["refined"] < min(v for k, v in made["end"].items() if k != "refined")


def test_a_budget_that_nothing_meets_says_the_least(tiny_llama, batches, found):
    with pytest.raises(wb.WorkbenchError, match="the least possible is 2"):
        refine(tiny_llama, batches, found, wb.Budget(kind="mean_bits", limit=1))
