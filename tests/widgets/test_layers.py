"""The layer table: what it shows of each stage, and which rows."""

from types import SimpleNamespace

import pytest

from workbench.widgets import LayerTable
from workbench.widgets.layer_table import matches


def test_times_are_shares_of_a_measured_prefill(session) -> None:
    table = LayerTable(session)
    session.observe()
    assert all(row["latency"] is None for row in table.rows)
    job = table.profile().wait(120)
    assert job.state == "done", job.error
    times = session.times
    for row in table.rows:
        assert row["ms"] == times.layers[row["name"]] > 0
        assert row["latency"] == pytest.approx(row["ms"] / times.prefill_ms.median)
    assert 0 < sum(row["latency"] for row in table.rows) < 1.5  # medians of a noisy machine
    session.update(session.recipe.with_alpha(0.9))
    assert all(row["latency"] is None for row in table.rows)


def test_predicted_and_measured_errors_have_columns_of_their_own(session) -> None:
    table = LayerTable(session)
    session.compare()
    name = session.plan.layers[0].name
    bits = session.plan.layers[0].bits
    found = {
        "int4": SimpleNamespace(bits=4, sqnr_db=11.0),
        "int8": SimpleNamespace(bits=bits, sqnr_db=33.0),
    }
    session.damages = SimpleNamespace(layers={name: found})
    table.refresh()
    row = next(row for row in table.rows if row["name"] == name)
    assert row["predicted_sqnr_db"] == 33.0
    measured = {layer.name: layer.sqnr_db for layer in session.comparison.layers}
    assert row["sqnr_db"] == pytest.approx(measured[name])
    assert row["bits"] == bits
    others = [row for row in table.rows if row["name"] != name]
    assert all(row["predicted_sqnr_db"] is None for row in others)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", True), ("mlp", True), ("MLP.Up", True), ("*.up_proj", True), ("*.layers.1?.*", True),
        ("attn", False), ("up_proj*", False), ("*.layers.?.*", False), ("[", False),
        ("layers(1", False),
    ],
)  # fmt: skip
def test_filter_takes_parts_and_patterns(pattern, found) -> None:
    assert matches("model.layers.12.mlp.up_proj", pattern) is found


def test_filter_hides_rows_and_keeps_them(session) -> None:
    session.load()
    table = LayerTable(session, filter="*.mlp.*")
    assert len(table.shown) == 6
    assert all(".mlp." in name for name in table.shown)
    assert len(table.rows) == 15
