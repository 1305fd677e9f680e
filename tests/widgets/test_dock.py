"""Docking, where it can be had and where not."""

import sys

import ipywidgets
import pytest

from workbench.widgets.dock import dock

module = sys.modules[dock.__module__]


@pytest.fixture
def shown(monkeypatch) -> list:
    found: list = []
    monkeypatch.setattr(module, "display", found.append)
    monkeypatch.delenv("WORKBENCH_SERVED", raising=False)
    return found


def test_a_panel_on_the_right_holds_the_widget(shown) -> None:
    pytest.importorskip("sidecar", reason="needs the extra [lab]")
    widget = ipywidgets.Label("x")
    panel = dock(widget, "Mine")
    assert (panel.title, panel.anchor) == ("Mine", "split-right")
    assert shown == [widget]


def test_without_the_package_and_in_an_app_the_cell_shows_it(shown, monkeypatch) -> None:
    widget = ipywidgets.Label("x")
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert dock(widget) is None
    monkeypatch.undo()
    monkeypatch.setattr(module, "display", shown.append)
    monkeypatch.setenv("WORKBENCH_SERVED", "1")
    assert dock(widget) is None
    assert shown == [widget, widget]
