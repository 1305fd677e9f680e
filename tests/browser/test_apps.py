"""Visitors of `workbench serve`: how soon, how safely, and what happens when something breaks."""

import os
import re

import psutil
import pytest
from served import LIVE

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kernels are forked where there is a fork"),
]


# anywidget waits two seconds for the module of a model. So does a page that is too busy for them.
TOO_BUSY = """const timeout = AbortSignal.timeout;
AbortSignal.timeout = (ms) => timeout.call(AbortSignal, ms === 2000 ? 0 : ms);"""


def kernels_of(process: psutil.Process) -> list[psutil.Process]:
    """The kernels that the server's nursery has forked."""
    (server,) = process.children()
    return [kernel for nursery in server.children() for kernel in nursery.children()]


def test_page_asks_no_other_host_and_once_for_the_state_of_all_widgets(visit, address) -> None:
    asked, said = [], []

    def keep(frame: str | bytes) -> None:
        said.append(frame.encode() if isinstance(frame, str) else frame)

    page, _ = visit()
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: socket.on("framesent", keep))
    page.reload()
    page.wait_for_selector(LIVE, state="attached")
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
    methods = [found for frame in said for found in re.findall(rb"request_states?", frame)]
    assert methods == [b"request_states"]


def test_address_chooses_and_what_it_may_not_is_shown_as_text(visit, pictures) -> None:
    attack = "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%1b"
    page, _ = visit(f"workbench.ipynb?model=minilm&alpha=0.8&scheme={attack}&path=/etc/passwd")
    assert page.locator("[data-fact=name]").get_attribute("data-value") == "minilm"
    assert page.get_by_label("alpha, as a number").input_value() == "0.8"
    refusal = page.locator(".qw-refused")
    assert "scheme=<img src=x onerror=alert(1)>\\u001b: scheme" in refusal.inner_text()
    assert "path=/etc/passwd: no such field; allowed: recipe" in refusal.inner_text()
    assert page.locator(".qw-refused img").count() == 0
    page.screenshot(path=pictures / "refused-address.png")


def test_a_page_that_was_too_busy_to_load_in_time_hears_its_kernel(visit) -> None:
    page, _ = visit(before=TOO_BUSY)
    number = page.get_by_label("alpha, as a number")
    number.fill("0.83")
    page.keyboard.press("Tab")
    page.locator("pre[data-language=python]").filter(has_text="alpha=0.83").wait_for()


def test_two_visitors_share_nothing(visit) -> None:
    first, _ = visit()
    second, _ = visit("workbench.ipynb?model=pylm")
    number = first.get_by_label("alpha, as a number")
    number.fill("0.83")
    first.keyboard.press("Tab")
    script = "pre[data-language=python]"
    first.locator(script).filter(has_text="alpha=0.83").wait_for()
    second.get_by_role("button", name="Calibrate").click()
    second.locator(".qw-stages[data-stage=calibrated]").wait_for()
    assert "alpha=0.83" not in second.locator(script).inner_text()
    assert second.locator("[data-fact=name]").get_attribute("data-value") == "pylm"
    assert first.locator(".qw-stages").get_attribute("data-stage") == "observed"


def test_banner_while_the_connection_is_lost_and_what_was_done_is_kept(
    visit, voila_process, pictures
) -> None:
    page, _ = visit()
    number = page.get_by_label("alpha, as a number")
    number.fill("0.61")
    page.keyboard.press("Tab")
    code = page.locator("pre[data-language=python]")
    code.filter(has_text="alpha=0.61").wait_for()
    banner = page.locator("#qw-connection")
    (server,) = voila_process.children()
    server.suspend()
    try:
        banner.filter(has_text="No connection to the server").wait_for(timeout=30_000)
        page.screenshot(path=pictures / "connection-lost.png")
    finally:
        server.resume()
    banner.wait_for(state="hidden", timeout=30_000)
    number.fill("0.62")
    page.keyboard.press("Tab")
    code.filter(has_text="alpha=0.62").wait_for()


def test_a_kernel_that_dies_is_said_so_and_a_new_one_is_one_click_away(
    visit, voila_process, pictures
) -> None:
    before = set(kernels_of(voila_process))
    page, _ = visit()
    (mine,) = set(kernels_of(voila_process)) - before
    mine.kill()
    banner = page.locator("#qw-connection[data-state=ended]")
    banner.filter(has_text="This session has ended").wait_for(timeout=30_000)
    page.screenshot(path=pictures / "session-ended.png")
    page.get_by_role("button", name="Start anew").click()
    banner.wait_for(state="detached")
    page.wait_for_selector(LIVE, state="attached")


def test_cancel_obeys_while_the_kernel_calibrates(calibrating) -> None:
    calibrating.get_by_role("button", name="Cancel").click()
    calibrating.locator(".qw-job").filter(has_text="calibrate: cancelled").wait_for(timeout=30_000)


def test_report_card_measures_and_prints(visit, pictures) -> None:
    page, _ = visit("report_card.ipynb?alpha=0.8", "[data-view=report] tr[data-key=perplexity]")
    row = page.locator("[data-view=report] tr[data-key=perplexity]")
    float_, quantized = (float(row.get_attribute(f"data-{key}")) for key in ("float", "quantized"))
    assert float_ < quantized < 1.05 * float_
    assert page.locator("[data-view=report] tr[data-layer]").count() == 29
    page.locator("[data-view=report] .qw-job").wait_for(state="hidden")  # speed comes last
    page.set_viewport_size({"width": 1280, "height": 1500})
    page.locator("[data-view=report]").screenshot(path=pictures / "report.png")
    page.emulate_media(media="print")
    assert not page.get_by_role("button", name="Make the card").is_visible()
    assert page.locator("[data-view=report] .qw-report-title").is_visible()
