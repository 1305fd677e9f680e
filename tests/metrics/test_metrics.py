"""Metrics against values worked out by hand."""

import math

import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

from workbench import metrics


def test_sqnr_of_a_tenth_is_twenty_decibels():
    reference = torch.tensor([3.0, 4.0])
    assert metrics.sqnr_db(reference, reference * 1.1) == pytest.approx(20, abs=1e-5)


def test_sqnr_of_equals_is_infinite():
    assert metrics.sqnr_db(torch.ones(3), torch.ones(3)) == math.inf


def test_kl_of_two_coins():
    p, q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert metrics.kl_divergence(p, q).item() == pytest.approx(expected, rel=1e-6)
    assert metrics.kl_divergence(p, p).item() == pytest.approx(0, abs=1e-12)


def test_top1_agreement_ignores_scale():
    logits = torch.tensor([[1.0, 2.0], [5.0, 4.0]])
    assert metrics.top1_agreement(logits, logits * 3).all()
    assert not metrics.top1_agreement(logits, -logits).any()


def test_neighbours_swap_when_points_do():
    points = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    assert metrics.neighbour_agreement(points, points) == 1
    assert metrics.neighbour_agreement(points, points[[0, 2, 1, 3]]) == 0


def test_neighbours_need_company():
    with pytest.raises(ValueError, match="more than 1"):
        metrics.neighbour_agreement(torch.ones(1, 2), torch.ones(1, 2))


def test_mean_pool_leaves_padding_out():
    states = torch.tensor([[[1.0, 5.0], [3.0, 7.0]], [[2.0, 4.0], [90.0, 90.0]]])
    mask = torch.tensor([[1, 1], [1, 0]])
    assert metrics.mean_pool(states, mask).tolist() == [[2.0, 6.0], [2.0, 4.0]]
    assert metrics.mean_pool(states).tolist() == [[2.0, 6.0], [46.0, 47.0]]


def test_cosine_of_a_right_angle():
    found = metrics.cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    assert found.item() == pytest.approx(0)


def test_ranking_agreement_is_the_mean_of_spearmans_correlations() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(7, 5), torch.randn(7, 5)
    unit_a, unit_b = (F.normalize(x.double(), dim=-1) for x in (a, b))
    expected = [
        spearmanr(
            [float(unit_a[i] @ unit_a[j]) for j in range(7) if j != i],
            [float(unit_b[i] @ unit_b[j]) for j in range(7) if j != i],
        ).statistic
        for i in range(7)
    ]
    assert metrics.ranking_agreement(a, b) == pytest.approx(sum(expected) / 7)
    assert metrics.ranking_agreement(a, 3 * a) == pytest.approx(1)


def test_ranking_agreement_needs_three_texts() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        metrics.ranking_agreement(torch.ones(2, 3), torch.ones(2, 3))
