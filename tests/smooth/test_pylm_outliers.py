"""The curve of alpha on the model made to have one, measured on the pinned evaluation text."""

import pytest
import torch

import workbench as wb
from workbench import metrics
from workbench.compare.quality import perplexity

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lm():
    return wb.load("pylm-outliers")


@pytest.fixture(scope="module")
def calibration(lm):
    return lm.batches("calibration")


@pytest.fixture(scope="module")
def statistics(lm, calibration):
    return wb.observe(lm.model, calibration)


def static(lm, statistics, calibration, alpha):
    """The model in W8A8 with one calibrated range a tensor, smoothed by `alpha`."""
    model = lm.copy()
    wb.smooth(model, statistics, alpha)
    wb.quantize(model, wb.qint8, wb.qint8, exclude="lm_head")
    with torch.no_grad(), wb.Calibration(model):
        for batch in calibration:
            model(**batch)
    wb.freeze(model)
    return model


@pytest.mark.exhaustive  # notebooks/outlier_smoothing.ipynb asserts it on less text
def test_too_little_and_too_much_alpha_both_cost(lm, statistics, calibration) -> None:
    text = lm.batches("evaluation")
    loss = perplexity(lm.model, text).loss
    added = {
        alpha: perplexity(static(lm, statistics, calibration, alpha), text).loss - loss
        for alpha in (0.0, 0.5, 0.75, 1.0)
    }
    best = min(added.values())
    assert added[0.0] >= 1.3 * best
    assert added[1.0] >= 1.3 * best
    assert min(added[0.0], added[1.0]) > best + 0.002, "more than the noise of 51 510 tokens"
    assert added[0.5] < 0.02, "the default alpha costs less than 2 % of perplexity"


def test_alpha_is_not_its_mirror_image(lm, statistics, calibration) -> None:
    """Activations share one step and rows of weights do not, so a quarter is far worse than three.

    An implementation with alpha and 1 - alpha swapped has it the other way round.
    """
    text = lm.batches("evaluation", samples=16)
    divergence = {}
    for alpha in (0.25, 0.75):
        model = static(lm, statistics, calibration, alpha)
        with torch.no_grad():
            each = [metrics.kl_divergence(lm.model(**b).logits, model(**b).logits) for b in text]
        divergence[alpha] = torch.cat([kl.flatten() for kl in each]).mean().item()
    assert divergence[0.25] > 3 * divergence[0.75]
