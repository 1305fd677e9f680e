"""Training from the page: offered where it helps, watched, paused, cancelled, kept at its best."""

import numpy as np
import pytest

from workbench.compare import Comparison
from workbench.widgets import TrainingPanel


@pytest.fixture
def panel(session) -> TrainingPanel:
    session.update(session.recipe.with_calibration(samples=8))
    session.observe()
    return TrainingPanel(session, steps=4)


@pytest.mark.parametrize(
    ("kl", "offered"), [(0.004, False), (0.3, True), (float("nan"), True), (float("inf"), True)]
)
def test_training_is_offered_where_the_loss_asks_for_it(panel, kl, offered) -> None:
    assert "Compare first" in panel.advice
    panel.session.comparison = Comparison(kl=kl, tokens=1, layers=[])
    panel.follow()
    assert panel.offered == offered
    assert f"{kl:.3g} nats a token" in panel.advice


def test_training_is_part_of_the_recipe_and_shows_its_curve(panel) -> None:
    session = panel.session
    job = panel.train()
    assert job.wait(120).state == "done", job.error
    training = session.recipe.training
    assert (training.steps, training.held_out, training.distil) == (4, 1, True)
    curve = session.curve
    np.testing.assert_array_equal(
        np.frombuffer(panel.losses, "<f4"), np.float32(curve.losses), strict=True
    )
    assert panel.judged == {str(step): loss for step, loss in curve.held_out.items()}
    assert panel.kept == curve.kept
    panel.set_state({"steps": 6})  # an edit of the recipe: what was trained holds no more
    assert session.recipe.training.steps == 6
    assert session.curve is None
    assert panel.losses == b""
    panel.drop()
    assert session.recipe.training is None
    assert not panel.planned


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("learning_rate", -1.0), ("learning_rate", float("inf")), ("held_out", -1)],
)
def test_bad_fields_are_refused_in_place(panel, field, value) -> None:
    before = getattr(panel, field)
    panel.set_state({field: value})
    assert field in panel.error
    assert getattr(panel, field) == before
    assert panel.session.recipe.training is None


def test_holding_out_everything_is_refused_in_words(panel) -> None:
    panel.held_out = 99
    job = panel.train().wait(60)
    assert job.state == "failed"
    assert "one is left to train on" in panel.error


def test_training_is_paused_resumed_and_cancelled(panel, monkeypatch) -> None:
    session = panel.session
    panel._pressed(None, {"call": "pause"}, [])
    assert "no training is running" in panel.error
    panel.steps = 5000
    job = panel.train()
    while not session.losses:
        job.wait(0.01)
        assert not job.ended
    panel.pause()
    assert panel.paused
    assert panel.job["paused"]
    job.wait(0.2)
    steps = len(session.losses.steps)
    job.wait(0.3)
    assert len(session.losses.steps) == steps
    panel.resume()
    while len(session.losses.steps) == steps:
        job.wait(0.01)
        assert not job.ended
    assert not panel.paused
    panel.pause()
    panel.cancel()  # even while paused
    assert job.wait(30).state == "cancelled"
    assert session.stage == "observed"
    assert len(panel.losses) > 0  # what was seen stays to be looked at
    assert panel.kept is None
