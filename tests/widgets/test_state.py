"""What a saved notebook weighs, and what a kernel holds, with every view on the real model."""

import base64
import gc
import json
import sys

import psutil
import pytest
from ipywidgets import Widget
from ipywidgets.widgets.widget import _instances

from workbench.session import Session

MOST_STATE = 3_000_000  # bytes
MOST_MEMORY = 150_000_000


@pytest.fixture(scope="module")
def real():
    session = Session("pylm-outliers")
    session.observe()
    yield session
    session.close()


def test_a_notebook_saved_with_all_views_stays_small(real) -> None:
    from workbench.widgets import ReportCard, Workbench

    before = set(_instances)
    views = [Workbench(real), ReportCard(real)]
    ours = [widget for key, widget in list(_instances.items()) if key not in before]
    assert len(ours) > len(views)
    state = Widget.get_manager_state(widgets=ours)["state"]
    size = len(json.dumps(state, default=lambda raw: base64.b64encode(raw).decode()))
    for view in views:
        view.close()
    assert size < MOST_STATE, f"{size:,} bytes"


def test_views_and_statistics_take_little_beside_the_model(real) -> None:
    from workbench.widgets import ReportCard, Workbench

    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    views = [Workbench(real), ReportCard(real)]
    grown = process.memory_info().rss - before
    for view in views:
        view.close()
    held = sum(
        tensor.numel() * tensor.element_size()
        for entry in real.statistics.entries.values()
        for tensor in vars(entry).values()
        if hasattr(tensor, "element_size")
    )
    assert grown + held < MOST_MEMORY, f"views {grown:,}, statistics {held:,} bytes"


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is asked to give memory back")
def test_what_calibrating_needed_is_given_back(real) -> None:
    def held() -> int:
        for _ in range(2):  # the second waits for what comes after the first
            real.queue("nothing", lambda: None).wait()
        return psutil.Process().memory_full_info().uss

    before = held()
    for verb in ("calibrate", "freeze"):
        assert real.submit(verb).wait().state == "done"
    grown = held() - before
    assert grown < MOST_MEMORY, f"{grown:,} bytes"


def test_a_page_of_views_can_be_exported(session) -> None:
    from ipywidgets.embed import embed_data

    from workbench.widgets import Workbench

    made = embed_data(views=[Workbench(session)])
    assert made["view_specs"]
    assert len(made["manager_state"]["state"]) > 11
