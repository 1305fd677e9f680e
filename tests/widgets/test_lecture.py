"""What the teaching notebooks are made of: charts and exercises."""

import json
import math

import pytest

from workbench.errors import WorkbenchError
from workbench.widgets import Exercise, LineChart


def test_a_chart_holds_its_curves_as_strict_json() -> None:
    made = LineChart(
        "Loss", {"a": (range(3), [1, math.inf, 3]), "b": ([0.5], [2])}, x="bits", y="dB"
    )
    assert made.series[0] == {"name": "a", "x": [0.0, 1.0, 2.0], "y": [1.0, None, 3.0]}
    assert made.words == []
    json.dumps(made.series, allow_nan=False)


def test_words_on_an_axis_keep_their_order() -> None:
    made = LineChart("t", {"a": (["o3", "o1"], [1, 2]), "b": (["o1", "o2"], [1, 2])}, x="", y="")
    assert made.words == ["o3", "o1", "o2"]


def test_charts_refuse_what_cannot_be_drawn() -> None:
    with pytest.raises(WorkbenchError, match="6 curves cannot be told apart; give 1 to 5"):
        LineChart("t", {str(i): ([0], [0]) for i in range(6)}, x="", y="")
    with pytest.raises(WorkbenchError, match="'a' has 2 x and 1 y"):
        LineChart("t", {"a": ([0, 1], [0])}, x="", y="")


@pytest.fixture
def exercise() -> Exercise:
    return Exercise("How many?", 12.5, hints=("count", "count again"), tolerance=0.02, unit="dB")


@pytest.mark.parametrize("answer", [12.5, "12.5", "12,5", " 12.6 ", "1.25e1"])
def test_a_right_number_is_accepted_as_people_write_it(exercise, answer) -> None:
    assert exercise.accepts(answer)
    assert exercise.verdict == ""
    assert exercise.check(answer)
    assert exercise.verdict == "✓ Right."


def test_each_wrong_answer_brings_the_next_hint(exercise) -> None:
    said = []
    for answer in (12, 13, 14):
        assert not exercise.check(answer)
        said.append(exercise.verdict)
    assert said == ["✗ Not yet. Hint: count", "✗ Not yet. Hint: count again", "✗ Not yet."]


@pytest.mark.parametrize("answer", ["", "many", "nan", "inf", None])
def test_what_is_no_answer_costs_no_hint(exercise, answer) -> None:
    assert not exercise.check(answer)
    assert "number" in exercise.verdict
    assert not exercise.check(1)
    assert "Hint: count" in exercise.verdict


def test_a_choice_is_checked_and_the_button_does_the_same() -> None:
    made = Exercise("Which?", "per token", choices=("per tensor", "per token"))
    button = made.children[1].children[1]
    button.click()
    assert made.verdict == "Choose an answer first."
    made.field.value = "per tensor"
    button.click()
    assert made.verdict.startswith("✗")
    made.field.value = "per token"
    button.click()
    assert made.verdict == made.children[2].value.split(">")[1].split("<")[0] == "✓ Right."
    with pytest.raises(WorkbenchError, match="not among the choices"):
        Exercise("Which?", "x", choices=("a",))
    with pytest.raises(WorkbenchError, match="no number"):
        Exercise("Which?", "x")
