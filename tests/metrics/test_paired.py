"""Paired statistics against tables, exact arithmetic and simulation."""

import numpy as np
import pytest

from workbench.metrics import adjusted, bootstrap_difference, mcnemar


def test_mcnemar_is_the_exact_binomial_of_the_flips() -> None:
    before = [True] * 3 + [True] * 5 + [False] * 4
    after = [False] * 3 + [True] * 5 + [False] * 4
    lost, won, p = mcnemar(before, after)
    assert (lost, won) == (3, 0)
    assert p == pytest.approx(2 / 2**3)


def test_mcnemar_does_not_see_what_both_got_right_or_wrong() -> None:
    assert mcnemar([True, False] * 10, [True, False] * 10) == (0, 0, 1.0)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        reference = rng.normal(size=80)
        candidate = reference + rng.normal(0.3, 1.0, size=80)
        interval = bootstrap_difference(reference, candidate, seed=trial, level=0.9)
        covered += not interval.excludes(0.3)
    assert 47 <= covered <= 60  # 54 expected; binomial, three standard deviations


def test_pairs_are_sharper_than_two_means() -> None:
    rng = np.random.default_rng(1)
    reference = rng.normal(0, 10, size=200)
    interval = bootstrap_difference(reference, reference + 0.1 + rng.normal(0, 0.05, 200))
    assert interval.excludes(0.0)
    assert not interval.excludes(0.1)


def test_weights_are_those_of_the_mean() -> None:
    reference, weights = np.zeros(50), np.r_[np.full(25, 1000.0), np.ones(25)]
    candidate = np.r_[np.full(25, 1.0), np.full(25, -1.0)]
    interval = bootstrap_difference(reference, candidate, weights)
    assert interval.low < (25000 - 25) / 25025 <= interval.high
    assert interval.low > 0.9


def test_the_same_seed_gives_the_same_interval() -> None:
    reference, candidate = np.arange(20.0), np.arange(20.0) ** 1.1
    first = bootstrap_difference(reference, candidate, seed=3)
    assert first == bootstrap_difference(reference, candidate, seed=3)
    assert first != bootstrap_difference(reference, candidate, seed=4)


def test_equal_differences_have_no_width() -> None:
    assert bootstrap_difference([1.0, 2.0], [1.5, 2.5]) == (0.5, 0.5)


@pytest.mark.parametrize("other", [[True], [True, False, True]])
def test_other_documents_are_refused(other) -> None:
    with pytest.raises(ValueError, match="not the same documents"):
        mcnemar([True, False], other)
    with pytest.raises(ValueError, match="not the same documents"):
        bootstrap_difference([1.0, 2.0], [float(x) for x in other])


def test_one_document_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least two"):
        bootstrap_difference([1.0], [2.0])


def test_adjusted_p_values_of_benjamini_and_hochberg() -> None:
    # p (m / rank), made monotone from above.
    assert adjusted([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert adjusted([]) == []
