"""Alpha x bits x algorithm, in this process and in others."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from workbench.session.sweep import sweep_recipes, variants


def test_every_combination_is_there(recipe):
    made = variants(recipe, alphas=[None, 0.5], bits=[4, 8], algorithms=[(), ("gptq",)])
    parts = [(r.smoothing, r.quantization) for r in made]
    found = {(s and s.alpha, q.weights.dtype, bool(q.algorithms)) for s, q in parts}
    assert len(made) == len(found) == 8
    assert variants(recipe) == [recipe]


def test_processes_measure_what_this_one_does(recipe):
    made = variants(recipe.with_scheme("none"), alphas=[None], bits=[3, 8], algorithms=[("gptq",)])
    here = sweep_recipes(made)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        there = sweep_recipes(made, executor)
    assert [r for r, _ in here] == [r for r, _ in there] == made
    for (_, ours), (_, theirs) in zip(here, there, strict=True):
        assert theirs.kl == pytest.approx(ours.kl, rel=1e-4)
    assert here[0][1].kl > 10 * here[1][1].kl
