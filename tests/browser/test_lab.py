"""The tool as its owner meets it: `workbench lab`, the notebook run from the menu."""

import re

import numpy as np
import pytest
from drawn import brightness, go, strip
from expected import float_perplexity, seen

pytestmark = pytest.mark.browser

MODEL = "pylm-outliers"
QKV = tuple(f"model.layers.0.self_attn.{part}_proj" for part in "qkv")


def test_notebook_in_jupyterlab_from_load_to_comparison(new_page, lab, pictures) -> None:
    page = new_page("lab")
    page.set_viewport_size({"width": 1500, "height": 2000})
    page.goto(f"{lab}/lab/tree/workbench.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    go(page, "all")
    page.wait_for_selector("svg[data-strip=difficulty]")

    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    found = seen(MODEL, *QKV)
    by_activation = np.argsort(-found.x, kind="stable")
    slider = page.get_by_role("slider", name="alpha")
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    drawn = strip(page, "activation").curve("activation")[1]
    np.testing.assert_allclose(drawn, found.smoothed(0.6)[0][by_activation], rtol=2e-3)
    page.locator("pre[data-language=python]").filter(has_text="alpha=0.6").wait_for()

    # Calibration, cancelled half-way.
    panel = page.locator("[data-view=calibration]")
    for label, value in (("Samples", "2000"), ("Tokens in each", "4")):
        panel.get_by_label(label).fill(value)
        page.keyboard.press("Tab")
    panel.get_by_role("button", name="Calibrate").click()
    running = panel.locator(".qw-job")
    running.filter(has_text=re.compile(r"[1-9]\d* of \d+")).wait_for()
    panel.get_by_role("button", name="Cancel").click()
    running.filter(has_text="calibrate: cancelled").wait_for(timeout=5_000)

    # And the comparison; that it is what a script measures, test_voila.py shows on the same page.
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    for label, value in (("Samples", "32"), ("Tokens in each", "256")):
        panel.get_by_label(label).fill(value)
        page.keyboard.press("Tab")
    page.get_by_role("button", name="Compare").click()
    row = page.locator("[data-view=comparison] tr[data-key=perplexity]")
    row.wait_for(timeout=300_000)
    float_, quantized = (float(row.get_attribute(f"data-{key}")) for key in ("float", "quantized"))
    assert float_ == pytest.approx(float_perplexity(MODEL), rel=1e-4)
    assert float_ < quantized < 1.05 * float_
    assert page.locator(".jp-OutputArea-output[data-mime-type*=error]").count() == 0
    page.locator("[data-view=alpha]").scroll_into_view_if_needed()
    assert brightness(page, "[data-view=alpha]", "backgroundColor") < 0.2
    page.screenshot(path=pictures / "lab-dark.png")
