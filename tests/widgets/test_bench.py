"""The page: its steps, one selection, one cancel, and a method for each button."""

import pytest

from workbench.errors import WorkbenchError
from workbench.session import History, Session
from workbench.widgets import CalibrationPanel, Stepper, Workbench
from workbench.widgets.bench import PLACES, STEPS


def test_every_place_is_a_view_of_a_step(session) -> None:
    bench = Workbench(session)
    assert {place.step for place in PLACES} == set(STEPS)
    for place in PLACES:
        assert isinstance(getattr(bench, place.name), place.view)
        for call in place.view.calls:
            assert callable(getattr(bench, call))
            assert getattr(bench, call).__doc__


def test_steps_are_done_as_the_session_comes_along(session, tmp_path) -> None:
    bench = Workbench(session)
    assert (bench.step, bench.stepper.done) == ("load", [])
    session.observe()
    assert bench.stepper.done == ["load", "observe"]
    session.save(tmp_path / "out")
    session.compare()
    assert bench.stepper.done == ["load", "observe", "calibrate", "compare", "recipe"]
    session.update(session.recipe.with_alpha(0.1))
    assert bench.stepper.done == ["load", "observe"]
    bench.undo()
    assert session.recipe.smoothing.alpha == 0.5
    bench.stepper.set_state({"step": "smooth"})
    assert bench.step == "smooth"
    bench.stepper.set_state({"step": "explode"})
    assert "no step 'explode'; choose one of: load, observe" in bench.stepper.error
    with pytest.raises(WorkbenchError, match="no step"):
        Workbench(session, step="explode")


CHANGING = {"layout", "needs"}  # what is needed names the memory that is free now


def test_a_second_page_over_the_same_session_shows_where_it_is(session) -> None:
    """A cell that is run again, or a notebook that is opened again while its kernel lives."""
    first = Workbench(session)
    first.load().wait(30)
    first.set_bits("*.mlp.*", 4)
    first.alpha.alpha = 0.7
    session.compare()
    second = Workbench(session)
    for name, view in first.views.items():
        shown, again = (
            {k: v for k, v in one.get_state().items() if k[0] != "_" and k not in CHANGING}
            for one in (view, second.views[name])
        )
        assert again == shown, name


def test_every_job_shows_at_the_head_and_is_cancelled_there(session, blocked) -> None:
    head, panel = Stepper(session), CalibrationPanel(session)
    job = panel.calibrate()
    assert blocked.entered.wait(20)
    assert (head.job["verb"], head.job["state"]) == ("calibrate", "running")
    head._pressed(None, {"call": "cancel"}, [])
    blocked.go.set()
    assert job.wait(20).state == "cancelled"
    assert session.stage == "observed"


def test_a_notebook_run_again_offers_the_recipe_it_was_left_with(
    session, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/ada/study.ipynb")

    def run_again() -> Workbench:
        return Workbench(Session("pylm", history=History(tmp_path / "history.sqlite")))

    first = run_again()
    assert first.stepper.left == {}
    first.alpha.alpha = 0.31
    second = run_again()
    assert second.session.recipe == session.recipe, "nothing is restored in silence"
    assert second.stepper.left["fields"] == 1
    assert second.stepper.left["label"] == "pylm, W8A8 O3 alpha 0.31"
    assert second.restore_left().wait(30).state == "done"
    assert second.session.recipe == first.session.recipe
    assert (second.session.stage, second.stepper.left) == ("observed", {})
    second.undo()
    assert second.session.recipe == session.recipe
    second.redo()

    third = run_again()
    third.dismiss_left()
    assert third.stepper.left == run_again().stepper.left == {}
    third.alpha.alpha = 0.9
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/ada/other.ipynb")
    assert run_again().stepper.left == {}
    with pytest.raises(WorkbenchError, match="no other recipe"):
        run_again().restore_left()
