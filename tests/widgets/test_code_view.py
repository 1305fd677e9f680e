"""The recipe as text, from outside, to others, and against what it was."""

import json

import pytest

from workbench.recipe import Recipe, decode_recipe
from workbench.widgets import CodeView


def press(view, call: str, *arguments) -> str:
    view._pressed(None, {"call": call, "arguments": list(arguments)}, [])
    return view.error


def test_a_recipe_goes_out_as_text_and_link_and_comes_back(session) -> None:
    view = CodeView(session, language="json")
    session.update(session.recipe.with_alpha(0.35).with_quantization(bits={"*.mlp.*": 4}))
    made, text = session.recipe, view.download()
    assert press(view, "share") == ""
    link = view.link
    assert decode_recipe(link.removeprefix("?recipe=")) == made
    for outside in (text, link, f"https://here.example/voila/workbench{link}&theme=dark"):
        session.update(Recipe())
        assert view.link == ""  # it was the link of another recipe
        assert press(view, "load_recipe", outside) == ""
        assert session.recipe == made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"seed": -1}', "seed is -1"),
        ('{"colour": 1}', "unknown field 'colour'"),
        ("import os", "holds no recipe"),
        ('{"model": "' + "x" * 70_000 + '"}', "are the most"),
        ('{"calibration": {"samples": "many"}}', "calibration.samples is 'many'"),
    ],
)
def test_what_is_no_recipe_is_refused_in_place(session, text, words) -> None:
    view, before = CodeView(session), session.recipe
    assert words in press(view, "load_recipe", text)
    assert session.recipe is before


def test_a_visitor_loads_no_path_and_no_other_model(session, monkeypatch) -> None:
    monkeypatch.setenv("WORKBENCH_SERVED", "1")
    view, before = CodeView(session), session.recipe
    assert "no model '/etc' here" in press(view, "load_recipe", json.dumps({"model": "/etc"}))
    text = json.dumps({"calibration": {"text": "/etc/passwd"}})
    assert "a visitor may not" in press(view, "load_recipe", text)
    assert session.recipe is before


def test_changes_are_against_what_was_chosen(session, tmp_path) -> None:
    view = CodeView(session)
    assert view.changes == []
    session.update(session.recipe.with_alpha(0.7))
    assert view.changes == [{"field": "smoothing.alpha", "before": "0.5", "after": "0.7"}]
    session.save(tmp_path / "out")
    session.update(session.recipe.with_alpha(0.9))
    view.set_state({"against": "saved"})
    assert view.changes == [{"field": "smoothing.alpha", "before": "0.7", "after": "0.9"}]
    view.set_state({"against": "yesterday"})
    assert "no recipe 'yesterday'" in view.error
    assert view.against == "saved"


def test_runs_are_listed_newest_first_and_restored(session) -> None:
    view = CodeView(session)
    for alpha in (0.5, 0.8):
        session.update(session.recipe.with_alpha(alpha))
        session.compare()
    assert [run["current"] for run in view.runs] == [True, False]
    assert "alpha 0.5" in view.runs[1]["label"]
    view.set_state({"against": view.runs[1]["key"]})
    assert view.changes == [{"field": "smoothing.alpha", "before": "0.5", "after": "0.8"}]
    assert press(view, "restore", view.runs[1]["key"]) == ""
    assert session.recipe.smoothing.alpha == 0.5
    assert "no point 'x'" in press(view, "restore", "x")
