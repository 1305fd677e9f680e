"""Each view against the session it shows."""

import time

import numpy as np
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.models import bundled
from workbench.widgets import (
    AlphaExplorer,
    CalibrationPanel,
    CodeView,
    ComparisonView,
    LayerTable,
    ModelCard,
    OutlierView,
    Workbench,
)
from workbench.widgets._arrays import heat_row


def eventually(condition) -> bool:
    """Wait for a view: the worker may still be telling it of the job that has just ended."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_model_card_offers_the_bundled_models_and_loads(session) -> None:
    card = ModelCard(session)
    assert [choice["name"] for choice in card.choices] == list(bundled)
    card.name = "pylm-outliers"
    assert session.recipe.model == "pylm"  # choosing is not loading
    assert card.load().wait(30).state == "done"
    assert session.recipe.model == card.facts["name"] == "pylm-outliers"
    parameters = sum(p.numel() for p in session.loaded.model.parameters())
    assert (card.facts["parameters"], card.facts["bytes"]) == (parameters, 4 * parameters)
    assert card.facts["layers"] == 2
    assert card.note == "Made to test."
    assert session.stage == "observed"


def test_visitor_may_only_load_what_the_operator_listed(session, monkeypatch) -> None:
    monkeypatch.setenv("WORKBENCH_SERVED", "1")
    monkeypatch.setenv("WORKBENCH_MODELS", "pylm, minilm")
    card = ModelCard(session)
    assert [choice["name"] for choice in card.choices] == ["pylm", "minilm"]
    card.set_state({"name": "/etc"})
    assert "'/etc'" in card.error
    assert card.name == "pylm"
    card.set_state({"free": True, "name": "/etc", "choices": [{"name": "/etc"}]})
    assert card.name == "pylm"


def test_layer_table_follows_every_stage(session) -> None:
    table = LayerTable(session)
    assert table.rows == []
    session.observe()
    linears = [n for n, m in session.loaded.model.named_modules() if isinstance(m, torch.nn.Linear)]
    assert sorted(row["name"] for row in table.rows) == sorted(linears)
    first = table.rows[0]
    entry = session.statistics[first["group"]]
    ratio = float(entry.absmax.max() / entry.absmax.median())
    assert first["outlier_ratio"] == pytest.approx(ratio)
    assert ratio > 10
    assert first["how"] is first["op"] is first["sqnr_db"] is None
    session.compare()
    rows = {row["name"]: row for row in table.rows}
    for layer in session.plan.layers:
        assert rows[layer.name]["bytes"] == layer.bytes
        assert rows[layer.name]["op"] == layer.op
        assert rows[layer.name]["how"] == layer.how
    sqnr = {layer.name: layer.sqnr_db for layer in session.comparison.layers}
    assert rows[first["name"]]["sqnr_db"] == pytest.approx(sqnr[first["name"]])
    with pytest.raises(WorkbenchError, match="no column 'size'"):
        table.sort = "size"


def test_heat_row_is_max_pooled_log_ratio() -> None:
    absmax = torch.ones(1200)
    absmax[[5, 700]] = torch.tensor([10.0, 1000.0])
    row = heat_row(absmax)
    assert len(row) == 400  # runs of three
    assert row[1].item() == pytest.approx(1.0)
    assert row[233].item() == pytest.approx(3.0)
    assert row.count_nonzero() == 2
    assert heat_row(absmax[:384]).shape == (384,)


def test_outlier_view_shows_the_chosen_input(session) -> None:
    view = OutlierView(session)
    assert view.gather().wait(30).state == "done"
    assert view.groups == list(session.statistics.entries)
    for name in view.groups[:2]:
        view.group = name
        entry = session.statistics[name]
        np.testing.assert_array_equal(np.frombuffer(view.absmax, "<f4"), entry.absmax)
        np.testing.assert_array_equal(np.frombuffer(view.weight_absmax, "<f4"), entry.weight_absmax)
    heat = np.frombuffer(view.heat, "<u2") / 65535 * view.heat_top
    assert len(heat) == sum(view.heat_columns) == sum(min(512, c) for c in view.heat_channels)
    first = session.statistics[view.groups[0]].absmax
    expected = (first / first.median()).log10().clamp(min=0)
    np.testing.assert_allclose(heat[: len(first)], expected, atol=view.heat_top / 65535)


def test_alpha_explorer_edits_the_recipe_and_follows_it(session) -> None:
    explorer = AlphaExplorer(session)
    explorer.set_state({"alpha": 0.7})
    assert session.recipe.smoothing.alpha == 0.7
    explorer.smooth = False
    assert session.recipe.smoothing is None
    session.update(session.recipe.with_alpha(0.2))
    assert (explorer.smooth, explorer.alpha) == (True, 0.2)


def test_alpha_explorer_shows_only_points_that_hold(session) -> None:
    explorer = AlphaExplorer(session, alphas=[None, 0.5])
    job = explorer.measure().wait(60)
    assert job.state == "done", job.error
    found = [
        (point.alpha, point.comparison.kl, point.comparison.perplexity) for point in job.result
    ]
    assert [tuple(point.values()) for point in explorer.points] == found
    assert explorer.quantity == "KL (nats a token)"
    session.update(session.recipe.with_alpha(0.9))
    assert eventually(lambda: explorer.alpha == 0.9)
    assert len(explorer.points) == 2
    session.update(session.recipe.with_scheme("o1"))
    assert eventually(lambda: explorer.points == [])


def test_calibration_panel_edits_recipe_and_runs(session) -> None:
    panel = CalibrationPanel(session)
    panel.set_state({"scheme": "o1", "samples": 6, "observer": "momentum"})
    assert session.recipe.scheme == "o1"
    assert session.recipe.calibration.samples == 6
    assert session.recipe.calibration.observer == "momentum"
    assert panel.freeze().wait(30).state == "done"
    assert eventually(lambda: panel.stage == session.stage == "frozen")


def test_comparison_shows_figures_and_saves(session, tmp_path) -> None:
    view = ComparisonView(session, folder=str(tmp_path / "out"))
    assert view.rows == []
    assert view.compare().wait(60).state == "done"
    rows = {row["key"]: row for row in view.rows}
    found = session.comparison
    assert rows["perplexity"]["float"] == pytest.approx(found.perplexity_reference)
    assert rows["perplexity"]["quantized"] == pytest.approx(found.perplexity)
    assert rows["kl"]["quantized"] == pytest.approx(found.kl)
    spared = sum(layer.float_bytes - layer.bytes for layer in session.plan.layers)
    assert rows["bytes"]["quantized"] == rows["bytes"]["float"] - spared
    assert len(view.layers) == len(found.layers)
    job = view.save().wait(60)
    assert job.state == "done", job.error
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert eventually(lambda: view.saved == str(tmp_path / "out"))
    session.update(session.recipe.with_alpha(0.9))
    assert eventually(lambda: view.rows == [])


@pytest.mark.parametrize("folder", ["../out", "/tmp/out", "", "a/b", ".hidden", "x" * 65])
def test_visitor_never_supplies_a_path(session, monkeypatch, tmp_path, folder) -> None:
    monkeypatch.setenv("WORKBENCH_SERVED", "1")
    assert not ComparisonView(session).may_save
    monkeypatch.setenv("WORKBENCH_SAVES", str(tmp_path))
    view = ComparisonView(session, folder=folder)
    assert view.may_save
    view._pressed(None, {"call": "save"}, [])
    assert "plain name" in view.error
    assert session.jobs == []


def test_code_view_prints_the_live_recipe(session) -> None:
    view = CodeView(session)
    session.update(session.recipe.with_alpha(0.35))
    assert "0.35" in view.python
    assert view.copy() == session.recipe.to_code()
    view.language = "json"
    assert view.copy() == session.recipe.to_json()


def test_workbench_shares_one_selection_and_has_a_method_for_each_button(session) -> None:
    bench = Workbench(session)
    assert bench.load().wait(30).state == "done"
    last = list(session.statistics.entries)[-1]
    bench.layers.set_state({"group": last})
    assert bench.outliers.group == bench.alpha.group == last
    assert bench.compare().wait(60).state == "done"
    assert eventually(lambda: bench.calibration.stage == "compared")
    children = bench.children
    bench.close()
    assert all(child.comm is None for child in children)  # an open panel of closed views is unsaved
    session.update(session.recipe.with_alpha(0.1))
    assert bench.alpha.alpha == 0.5
