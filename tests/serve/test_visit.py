"""The address of an app, judged at the door."""

import pytest

pytest.importorskip("anywidget", reason="the widgets need the extra [lab]")

from workbench.recipe import Recipe
from workbench.serve.visit import visit

START = Recipe(model="pylm-outliers")


@pytest.fixture(autouse=True)
def as_an_app(monkeypatch):
    monkeypatch.setenv("WORKBENCH_SERVED", "1")
    monkeypatch.delenv("WORKBENCH_MODELS", raising=False)
    monkeypatch.delenv("QUERY_STRING", raising=False)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", START),
        ("theme=dark", START),
        ("model=pylm", START.with_model("pylm")),
        ("alpha=0.7", START.with_alpha(0.7)),
        ("alpha=none&scheme=o1", START.with_alpha(None).with_scheme("o1")),
        ("scheme=o2&model=minilm&alpha=1", Recipe(model="minilm").with_scheme("o2").with_alpha(1)),
    ],
)
def test_fields_of_the_address_become_the_recipe(query, expected) -> None:
    found = visit(START, query)
    assert found.recipe == expected
    assert found.refused == ()
    assert found.html == ""


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (
            "model=../../etc/passwd",
            r"no model '../../etc/passwd' here; choose one of: minilm, pylm",
        ),
        ("model=/etc", "no model '/etc' here"),
        ("model=", "no model '' here"),
        ("alpha=2", "a number from 0 to 1"),
        ("alpha=nan", "a number from 0 to 1"),
        ("alpha=much", "a number from 0 to 1"),
        ("scheme=o9", "scheme 'o9' is unknown; allowed: o1, o2, o3, none"),
        ("recipe=../secret", "recipes offered by name: none"),
        ("recipe=%00", "offered by name"),
        ("calibration=x", "no such field; allowed: recipe, model, alpha, scheme"),
    ],
)
def test_what_cannot_be_had_is_refused_in_words_and_the_rest_followed(query, words) -> None:
    found = visit(START, f"{query}&theme=dark")
    assert found.recipe == START
    (sentence,) = found.refused
    assert words in sentence
    both = visit(START, f"{query}&seed=1&alpha=0.25" if "alpha" not in query else f"{query}&x=1")
    assert len(both.refused) == 2


def test_markup_and_control_characters_come_out_as_text() -> None:
    found = visit(START, "model=<img src=x onerror=alert(1)>%00%1b[31m%0a&model2=" + "x" * 500)
    page = found.html
    assert "<img" not in page
    assert "&lt;img src=x" in page
    assert not any(ord(c) < 32 for c in page)
    assert all(len(sentence) < 600 for sentence in found.refused)


def test_more_fields_than_anybody_needs_are_not_read() -> None:
    found = visit(START, "&".join(f"alpha=0.{i}" for i in range(30)))
    assert found.recipe == START
    assert found.refused == ("It has more than 20 fields.",)


def test_only_what_the_operator_lists_may_be_loaded(monkeypatch) -> None:
    monkeypatch.setenv("WORKBENCH_MODELS", "pylm")
    assert "choose one of: pylm" in visit(Recipe(model="pylm"), "model=minilm").refused[0]


def test_recipes_are_offered_by_name_and_judged_too(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORKBENCH_RECIPES", str(tmp_path))
    offered = Recipe(model="pylm").with_alpha(0.9)
    offered.save(tmp_path / "lecture-3.json")
    Recipe(model="/home/operator/model").save(tmp_path / "private.json")
    offered.with_calibration(text="/etc/passwd").save(tmp_path / "file.json")
    (tmp_path / "broken.json").write_text("{")
    assert visit(START, "recipe=lecture-3").recipe == offered
    assert visit(START, "alpha=0.1&recipe=lecture-3").recipe == offered.with_alpha(0.1)
    for name, words in (
        ("private", "no model '/home/operator/model' here"),
        ("file", "names data to calibrate on"),
        ("broken", "not JSON"),
        ("../lecture-3", "recipes offered by name"),
        ("lecture-3.json", "recipes offered by name"),
    ):
        found = visit(START, f"recipe={name}")
        assert found.recipe == START
        assert words in found.refused[0]


def test_a_notebook_of_ones_own_has_no_visitors(monkeypatch) -> None:
    monkeypatch.delenv("WORKBENCH_SERVED")
    monkeypatch.delenv("SERVER_SOFTWARE", raising=False)
    monkeypatch.setenv("QUERY_STRING", "model=pylm")
    assert visit(START).recipe == START
    monkeypatch.setenv("WORKBENCH_SERVED", "1")
    assert visit(START).recipe.model == "pylm"
