"""What all views share: refusals, errors, jobs, cancelling, following."""

import json
import threading

import pytest

from workbench import widgets
from workbench.errors import WorkbenchError
from workbench.widgets import AlphaExplorer, CalibrationPanel, ComparisonView, ModelCard, Workbench
from workbench.widgets._assets import module
from workbench.widgets._base import View
from workbench.widgets.bench import PLACES

VIEWS = [
    getattr(widgets, name)
    for name in widgets.__all__
    if isinstance(getattr(widgets, name), type) and issubclass(getattr(widgets, name), View)
]


COMPOSED = {place.view for place in PLACES}


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_unknown_keyword_is_refused_by_name(session, view) -> None:
    with pytest.raises(WorkbenchError, match=r"has no option 'colour'.*Check the spelling"):
        view(session, colour="red")


def test_workbench_refuses_unknown_keywords_too(session) -> None:
    with pytest.raises(WorkbenchError, match="'sessions'"):
        Workbench(session, sessions=2)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_every_button_has_a_method_and_a_documented_trait_state(view) -> None:
    source = module(view.module)
    for name in view.calls:
        assert callable(getattr(view, name))
        assert f'button(model, "{name}"' in source or f'"data-call": "{name}"' in source
        if view in COMPOSED:
            assert hasattr(Workbench, name) or name == "copy"


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_state_is_strict_json_before_and_after_all_stages(session, view) -> None:
    made = view(session)
    for verb in (None, "compare"):
        if verb:
            getattr(session, verb)()
        assert made.error == ""
        state = {k: v for k, v in made.get_state().items() if not isinstance(v, bytes)}
        state.pop("layout")
        json.dumps(state, allow_nan=False, default=str)


def test_views_are_silent_after_close(session) -> None:
    view = ModelCard(session)
    view.close()
    session.load()
    assert view.facts == {}


def test_press_calls_only_named_methods(session) -> None:
    panel = CalibrationPanel(session)
    panel._pressed(None, {"call": "close"}, [])
    assert panel.comm is not None
    panel._pressed(None, {"call": "calibrate"}, [])
    assert session.job.verb == "calibrate"
    assert session.job.wait(30).state == "done"


def test_edit_from_the_browser_that_is_refused_is_explained_and_undone(session) -> None:
    panel = CalibrationPanel(session)
    before = session.recipe
    panel.set_state({"samples": 0})
    assert panel.samples == before.calibration.samples
    assert session.recipe == before
    assert "samples" in panel.error
    panel.set_state({"samples": 4})
    assert panel.error == ""
    assert session.recipe.calibration.samples == 4


def test_alpha_out_of_range_is_refused_in_python_and_from_the_browser(session) -> None:
    explorer = AlphaExplorer(session)
    with pytest.raises(WorkbenchError, match=r"alpha is 1\.5"):
        explorer.alpha = 1.5
    for wrong in (1.5, -0.1, float("nan")):
        explorer.set_state({"alpha": wrong})
        assert explorer.alpha == 0.5
        assert f"alpha is {wrong}" in explorer.error
    assert session.recipe.smoothing.alpha == 0.5


def test_failed_job_is_shown_where_it_was_asked_for(session, monkeypatch) -> None:
    card, panel = ModelCard(session), CalibrationPanel(session)

    def fail(name, **_):
        raise WorkbenchError("no model 'x'; choose another.")

    monkeypatch.setattr("workbench.session.session.load", fail)
    assert card.load().wait(30).state == "failed"
    assert card.error == "no model 'x'; choose another."
    assert panel.error == ""
    assert session.stage == "empty"


def test_cancel_stops_calibration_and_leaves_the_session_where_it_was(session, blocked) -> None:
    panel = CalibrationPanel(session)
    job = panel.calibrate()
    assert blocked.entered.wait(20)
    assert panel.job["state"] == "running"
    panel.cancel()
    blocked.go.set()
    assert job.wait(20).state == "cancelled"
    assert panel.job["state"] == "cancelled"
    assert panel.stage == session.stage == "observed"


def test_cancel_also_takes_what_is_queued_behind(session, blocked) -> None:
    view = ComparisonView(session)
    first, second = CalibrationPanel(session).calibrate(), view.compare()
    assert blocked.entered.wait(20)
    view.cancel()
    blocked.go.set()
    assert [job.wait(20).state for job in (first, second)] == ["cancelled", "cancelled"]
    assert session.comparison is None


def test_progress_reaches_the_browser_at_most_ten_times_a_second(session, monkeypatch) -> None:
    from workbench.progress import track

    panel, sent = CalibrationPanel(session), []
    panel.observe(lambda change: sent.append(change["new"]["done"]), "job")
    session.observe()

    def busy(*_):
        for _ in track(range(20_000), "spinning"):
            pass

    monkeypatch.setattr(session, "calibrate", busy)
    job = panel.calibrate().wait(30)
    assert job.state == "done"
    assert len(sent) < 12  # the loop takes well under a second


def test_a_call_during_another_ones_turn_asks_for_one_more(session) -> None:
    """The last state wins, and no caller ever waits for another one's refresh."""
    entered, go, seen = threading.Event(), threading.Event(), []

    class Slow(View):
        module = "code_view"

        def refresh(self) -> None:
            seen.append(self.session.stage)
            if self.session.stage == "loaded":
                entered.set()
                assert go.wait(20)

    Slow(session)
    loader = threading.Thread(target=session.load)
    loader.start()
    assert entered.wait(20)
    session.statistics = object()
    session._notify()  # returns at once although the other thread is inside refresh
    session.statistics = None
    go.set()
    loader.join(20)
    assert seen[0] == "empty"
    assert seen.count("loaded") == 2


def test_progress_does_not_take_back_an_edit_on_its_way(session) -> None:
    """The worker reports progress between an edit's arrival and the recipe's change."""
    explorer = AlphaExplorer(session)
    update = session.update

    def late(recipe) -> None:
        worker = threading.Thread(target=session._notify)
        worker.start()
        worker.join(10)
        assert not worker.is_alive()
        assert explorer.alpha == 0.7
        update(recipe)

    session.update = late
    explorer.set_state({"alpha": 0.7})
    assert explorer.error == ""
    assert explorer.alpha == session.recipe.smoothing.alpha == 0.7
