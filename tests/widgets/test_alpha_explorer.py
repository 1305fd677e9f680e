"""Alphas of single inputs, errors measured on release, and the sweep behind a suggestion."""

import pytest

from workbench.recipe import group_alphas
from workbench.widgets import AlphaExplorer
from workbench.widgets._arrays import readers


@pytest.fixture
def explorer(session) -> AlphaExplorer:
    session.observe()
    return AlphaExplorer(session, on_release=False)


def test_an_input_gets_an_alpha_of_its_own_and_gives_it_back(explorer) -> None:
    session = explorer.session
    first, second = explorer.groups[:2]
    explorer.set_state({"only": True})
    explorer.set_state({"alpha": 0.8})
    assert session.recipe.smoothing.overrides == {first: 0.8}
    assert session.recipe.smoothing.alpha == 0.5
    explorer.set_state({"group": second})  # another input: its own alpha shows, nothing is edited
    assert (explorer.only, explorer.alpha) == (False, 0.5)
    explorer.set_state({"alpha": 0.3})
    assert session.recipe.smoothing.alpha == 0.3
    explorer.set_state({"group": first})
    assert (explorer.only, explorer.alpha) == (True, 0.8)
    explorer.set_state({"smooth": False})
    assert group_alphas(session.recipe, readers(session))[first] is None
    explorer.set_state({"only": False})
    assert session.recipe.smoothing.overrides == {}
    assert explorer.alpha == 0.3
    session.calibrate()  # which refuses overrides that match nothing, or twice


def test_a_pattern_that_held_for_the_input_goes_on_for_the_others(explorer) -> None:
    session, first = explorer.session, explorer.groups[0]
    session.update(session.recipe.with_alphas(0.5, {"*self_attn*": 0.7}))
    before = group_alphas(session.recipe, readers(session))
    assert not explorer.only
    explorer.set_state({"only": True})
    explorer.set_state({"alpha": 0.2})
    after = group_alphas(session.recipe, readers(session))
    assert after == before | {first: 0.2}
    session.calibrate()


def test_no_input_has_an_alpha_of_its_own_where_nothing_is_smoothed(explorer) -> None:
    explorer.set_state({"smooth": False})
    explorer.set_state({"only": True})
    assert "switch smoothing on first" in explorer.error
    assert not explorer.only


def test_release_measures_the_layers_of_this_input(session) -> None:
    session.observe()
    explorer = AlphaExplorer(session)
    assert explorer.on_release
    for alpha in (0.2, 0.9):
        explorer.set_state({"alpha": alpha})
        assert session.job.verb == "error"
        assert session.job.wait(30).state == "done"
    found = {error["alpha"]: error["sqnr_db"] for error in explorer.errors}
    assert found == {alpha: session.errors[explorer.group, alpha].sqnr_db for alpha in (0.2, 0.9)}
    explorer.group = explorer.groups[1]
    assert explorer.errors == []
    session.update(session.recipe.with_scheme("o1"))  # rounded in another way: they hold no more
    assert session.errors == {}


def test_errors_do_not_queue_up_behind_long_work(session, blocked) -> None:
    explorer = AlphaExplorer(session)
    job = session.submit("calibrate")
    assert blocked.entered.wait(20)
    for alpha in (0.1, 0.2, 0.3):
        explorer.set_state({"alpha": alpha})
    assert [job.verb for job in session.jobs].count("error") == 1
    blocked.go.set()
    job.wait(30)
    assert session.job.wait(30).state == "done"
    assert [alpha for _, alpha in session.errors] == [0.3]


def test_suggestion_shows_its_sweep_and_is_used_when_asked(explorer) -> None:
    session = explorer.session
    explorer._pressed(None, {"call": "use"}, [])
    assert "nothing is suggested yet" in explorer.error
    session.update(session.recipe.with_alpha(0.07))  # which no search tries
    before = session.recipe
    assert explorer.suggest().wait(120).state == "done"
    search = session.search
    assert session.recipe == before, "a suggestion is no edit"
    row = search.names.index(explorer.group)
    assert explorer.suggestion["linear"] == search.linear_error[row].tolist()
    assert explorer.suggestion["chosen"] == search.chosen[explorer.group]
    assert not explorer.suggestion["used"]
    explorer.use()
    alphas = group_alphas(session.recipe, readers(session))
    assert {name: alphas[name] for name in search.chosen} == search.chosen
    assert session.search is search, "it holds for every alpha"
    assert explorer.suggestion["used"]
    session.undo()
    assert session.recipe == before
