"""The bits editor: what a click means, what its figures are, and what it refuses."""

import pytest

from workbench.recipe import layer_bits
from workbench.session import History, Session
from workbench.session import session as module
from workbench.widgets import BitsEditor


@pytest.fixture
def editor(session, tmp_path, monkeypatch) -> BitsEditor:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    session.observe()
    return BitsEditor(session)


def press(view, call: str, *arguments) -> str:
    """What a button of the page sends; the sentence that the page then shows."""
    view._pressed(None, {"call": call, "arguments": list(arguments)}, [])
    return view.error


def done(job):
    assert job.wait(60).state == "done", job.error
    return job


def test_rows_have_exact_sizes_and_reasons(editor) -> None:
    rows = {row["name"]: row for row in editor.rows}
    up = rows["model.layers.0.mlp.up_proj"]  # 48 x 32, one scale for each output
    assert up["float_bytes"] == 48 * 32 * 4
    said = {b: 48 * (32 * b // 8 + 4) for b in (2, 3, 4, 6, 8)}
    # Packed weights are saved with their shape, two int64.
    assert up["bytes"] == {str(b): size + 16 * (b < 8) for b, size in said.items()}
    assert "skip leaves the layer in float" in up["refused"]["16"]
    head = rows["lm_head"]
    assert head["bytes"] == {}
    assert "embedding" in head["refused"]["8"]
    whole = sum(p.numel() * 4 for p in editor.session.loaded.model.parameters())
    assert editor.other_bytes + sum(row["float_bytes"] for row in editor.rows) >= whole


def test_clicks_edit_the_recipe_and_are_undone(editor) -> None:
    session, names = editor.session, editor._names()
    assert press(editor, "set_bits", "model.layers.0.mlp.up_proj", 4) == ""
    assert press(editor, "set_bits", "*.self_attn.*", 2) == ""
    assert press(editor, "set_bits", "*.o_proj", None) == ""
    assert editor.bits == layer_bits(session.recipe, names)
    assert editor.bits["model.layers.0.mlp.up_proj"] == 4
    assert editor.bits["model.layers.1.self_attn.q_proj"] == 2
    assert editor.bits["model.layers.1.self_attn.o_proj"] is None
    assert editor.can_undo
    for _ in range(3):
        press(editor, "undo")
    assert set(editor.bits.values()) == {8}
    assert not editor.can_undo
    press(editor, "redo")
    assert editor.bits["model.layers.0.mlp.up_proj"] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("*.mpl", 4), "matches none of the 14 layers"),
        (("*", 5), "5 bits are no width"),
        (("*", "many"), "invalid literal"),
        ((), "missing"),
    ],
)
def test_bad_edits_are_refused_in_place(editor, arguments, words) -> None:
    before = editor.session.recipe
    assert words in press(editor, "set_bits", *arguments)
    assert editor.session.recipe is before


def test_scales_change_sizes_and_the_recipe(editor) -> None:
    before = editor.rows[0]["bytes"]["4"]
    editor.set_state({"scales": "affine group"})
    weights = editor.session.recipe.quantization.weights
    assert (weights.granularity, weights.symmetric) == ("group", False)
    assert editor.rows[0]["bytes"]["4"] == before + 32  # a zero point for each of 32 outputs


def test_prediction_allocation_and_the_front(editor) -> None:
    session = editor.session
    assert editor.points == []
    assert editor.float_point["bytes"] == session.loaded.bytes
    done(editor.predict())
    row = editor.rows[0]
    damages = session.damages.layers[row["name"]]
    assert row["damage"] == {str(d.bits): d.output for d in damages.values()}
    predicted = [point for point in editor.points if point["kind"] == "predicted"]
    errors = [point["error"] for point in predicted]
    assert len(errors) == 9
    assert errors == sorted(errors, reverse=True), "more bytes never predict more damage"
    assert sorted(point["bytes"] for point in predicted) == [p["bytes"] for p in predicted]

    editor.set_state({"budget_kind": "mean bits", "budget": 4.0})
    done(editor.allocate())
    parameters = {row["name"]: row["parameters"] for row in editor.rows if row["bytes"]}
    spent = sum(editor.bits[name] * count for name, count in parameters.items())
    assert spent <= 4.0 * sum(parameters.values())

    # Clicking a predicted point gives the bits it stands for, and says that they are in force.
    assert press(editor, "restore", predicted[0]["key"]) == ""
    assert set(editor.bits.values()) == {2}
    assert [p["key"] for p in editor.points if p.get("current")] == [predicted[0]["key"]]
    assert "no point 'predicted 99'" in press(editor, "restore", "predicted 99")


def test_budget_in_mb_is_that_of_the_whole_model(editor) -> None:
    whole = editor.session.loaded.bytes
    press(editor, "set_bits", "*.o_proj", None)
    editor.budget = 0.75 * whole / 1e6
    done(editor.allocate())
    rows = editor.rows
    size = editor.other_bytes + sum(
        row["bytes"].get(str(editor.bits.get(row["name"])), row["float_bytes"]) for row in rows
    )
    assert size <= 0.75 * whole
    assert editor.bits["model.layers.0.self_attn.o_proj"] is None
    editor.budget = 1e-6
    assert "what stays in float takes" in press(editor, "allocate")
    editor.budget = 0.0
    assert "give more" in press(editor, "allocate")


def test_measured_points_are_those_of_yesterday_too_and_restore_their_recipe(
    session, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "runs.sqlite"
    yesterday = Session("pylm", history=History(path))
    view = BitsEditor(yesterday)
    yesterday.load()
    view.set_bits("*.mlp.*", 4)
    run = done(view.measure_recipe()).result
    assert run.prefill_ms > 0
    kept = yesterday.recipe
    yesterday.close()

    today = Session("pylm", history=History(path))
    view = BitsEditor(today)
    assert view.points == []  # of no model
    today.load()
    [point] = view.points
    assert point["kind"] == "measured"
    assert point["error"] == run.comparison.kl
    assert point["bytes"] == run.bytes
    assert (point["samples"], point["seed"]) == (run.comparison.tokens, 0)
    assert view.float_point["ms"] == run.float_prefill_ms
    assert not point["current"]
    assert press(view, "restore", point["key"]) == ""
    assert today.recipe == kept
    assert view.points[0]["current"]
    monkeypatch.setattr(module, "compare", None)  # what was measured is not measured again
    assert today.compare().kl == run.comparison.kl
    today.close()


def test_a_budget_stays_until_another_model_is_loaded(editor) -> None:
    session, proposed = editor.session, editor.budget
    editor.set_state({"budget_kind": "mean bits", "budget": 4.0})
    session.update(session.recipe.with_alpha(0.3))
    assert (editor.budget, editor.budget_kind) == (4.0, "mean bits")
    session.update(session.recipe.with_model("pylm-outliers"))
    session.load()
    assert (editor.budget, editor.budget_kind) == (proposed, "MB")


def test_bits_left_to_a_budget_are_told_apart_from_bits(editor) -> None:
    budget = {"kind": "mean_bits", "limit": 4}
    session = editor.session
    session.update(session.recipe.with_quantization(bits="auto", budget=budget))
    assert editor.bits == {}
    assert '"auto": allocate them first' in press(editor, "set_bits", "*.mlp.*", 4)
    assert press(editor, "set_bits", "*", 4) == ""
    assert set(editor.bits.values()) == {4}
