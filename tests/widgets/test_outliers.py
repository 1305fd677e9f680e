"""The outlier view: its sources, what it links, what it tells of tokens, and how much it holds."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.observe import Entry, Statistics
from workbench.widgets import LayerTable, OutlierView
from workbench.widgets._arrays import histogram
from workbench.widgets._surface import CHANNELS, TOKENS, surface


def array(sent: bytes) -> np.ndarray:
    return np.frombuffer(sent, "<f4")


@pytest.fixture
def view(session) -> OutlierView:
    session.observe()
    return OutlierView(session)


def test_sources_are_those_that_the_model_has(view) -> None:
    names = [source["name"] for source in view.sources]
    assert names == ["inputs", "residual", "keys", "values", "weights"]
    view.set_state({"source": "convolution"})
    assert "this model has no inputs of convolutions" in view.error
    assert view.source == "inputs"
    with pytest.raises(WorkbenchError, match="no source 'gradients'"):
        view.source = "gradients"


def test_a_row_of_any_source_chooses_its_layer_everywhere(session, view) -> None:
    table = LayerTable(session)
    view.set_state({"source": "keys"})
    assert view.rows == ["model.layers.0.keys", "model.layers.1.keys"]
    assert view.row == "model.layers.0.keys"  # the block of the chosen input
    view.set_state({"row": "model.layers.1.keys"})
    assert table.group.startswith("model.layers.1.self_attn.[q_proj")
    table.set_state({"group": "model.layers.0.mlp.down_proj"})
    assert view.row == "model.layers.0.keys"
    view.source = "inputs"
    assert view.row == view.group == "model.layers.0.mlp.down_proj"


def test_a_view_made_later_shows_what_was_chosen_before(session, view) -> None:
    last = view.groups[-1]
    view.group = last
    assert LayerTable(session).group == last
    assert OutlierView(session).row == last
    assert OutlierView(session, group=view.groups[0]).group == view.group == view.groups[0]


@pytest.mark.parametrize("source", ["residual", "keys", "values"])
def test_streams_are_shown_as_they_were_observed(session, view, source) -> None:
    view.source = source
    stream = session.statistics.streams[view.row]
    assert stream.tap.kind == source
    np.testing.assert_array_equal(array(view.absmax), stream.absmax)
    assert view.weight_absmax == view.scales == b""
    assert "inputs of linear layers only" in view.smoothed


def test_scales_are_a_preview_until_they_are_built(session, view) -> None:
    entry = session.statistics[view.row]
    s = entry.absmax.double() ** 0.5 / entry.weight_absmax.double() ** 0.5
    np.testing.assert_allclose(array(view.scales), s, rtol=1e-5)
    assert view.smoothed == "preview, alpha 0.5"
    session.update(session.recipe.with_alpha(0.25))
    s = entry.absmax.double() ** 0.25 / entry.weight_absmax.double() ** 0.75
    np.testing.assert_allclose(array(view.scales), s, rtol=1e-5)
    session.calibrate()
    built = session.smoothing.of(entry.linears[0])
    np.testing.assert_array_equal(array(view.scales), built.scales)
    assert view.smoothed == "as built: folded into the weights, alpha 0.25"
    session.update(session.recipe.with_alpha(None))
    assert view.scales == b""
    assert view.smoothed == "the recipe does not smooth"


def test_the_tokens_behind_the_peaks_are_text_in_their_context(session, view) -> None:
    session.loaded.tokenizer = Mock(decode=lambda ids: "".join(f"<{i}>" for i in ids))
    view.source = "residual"
    peaks = session.statistics.streams[view.row].peaks
    assert [peak["channel"] for peak in view.peaks] == peaks.channels.tolist()
    text = "".join(f"<{i}>" for batch in session.loaded.batches("calibration", samples=32, seed=0)
                   for row in batch["input_ids"] for i in [*row.tolist(), "end"])  # fmt: skip
    for peak, value in zip(view.peaks, peaks.values.tolist(), strict=True):
        assert peak["value"] == pytest.approx(value)
        assert peak["before"] + peak["token"] + peak["after"] in text
        assert peak["before"].count("<") == min(12, peak["position"])


def test_the_surface_keeps_loud_channels_and_peak_tokens_in_its_size() -> None:
    from workbench.observe.places import Places
    from workbench.observe.seen import measured

    x = torch.rand(600, 1000, generator=torch.Generator().manual_seed(0))
    x[17, 433], x[599, 900], x[3, 1] = 50.0, -40.0, 30.0
    ids = torch.arange(600)[None]
    fields = measured(x[None], Places.of({"input_ids": ids}), 256)
    shown = surface(Entry(group=None, weight_absmax=torch.ones(1000), **fields))
    assert shown.values.shape == (TOKENS, CHANNELS)
    assert {1, 433, 900} <= set(shown.channels.tolist())
    assert shown.channels.tolist() == sorted(set(shown.channels.tolist()))
    assert {3, 17, 599} <= set(shown.tokens.positions.tolist())
    assert shown.values.max() == 50.0
    rows = shown.tokens.positions.long()
    assert torch.equal(shown.values, x[rows][:, shown.channels].abs())


def test_weights_have_a_histogram_of_each_layer(session, view) -> None:
    view.source = "weights"
    entry = session.statistics[view.row]
    assert [found["layer"] for found in view.histograms] == list(entry.linears)
    for found in view.histograms:
        weight = session.loaded.model.get_submodule(found["layer"]).weight.detach()
        counts, edges = np.histogram(weight, bins=81, range=(found["low"], found["high"]))
        assert sum(found["counts"]) == weight.numel()
        assert found["high"] == weight.abs().max().item()
        assert np.abs(counts - found["counts"]).sum() <= 4  # a value on an edge may go either way
        assert edges[40] < 0 < edges[41]
    assert view.surface == b""
    assert view.peaks == []


def test_a_histogram_of_zeros_is_one_bar() -> None:
    counts = histogram(torch.zeros(3, 5))["counts"]
    assert counts[40] == 15
    assert sum(counts) == 15


def test_a_large_model_keeps_the_saved_state_small(session, large: Statistics) -> None:
    """32 layers x 4096 channels: 3 MB hold all widgets of a notebook, this one must leave room."""
    session.load()
    session.statistics = large
    view = OutlierView(session)
    state = view.get_state()
    sent = sum(len(v) if isinstance(v, bytes) else len(repr(v)) for v in state.values())
    assert len(view.rows) == 32 * 4
    assert sent - len(state["_esm"]) - len(state["_css"]) < 400_000
