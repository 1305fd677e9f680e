"""The teaching notebook as a visitor meets it: run from first cell to last before it is shown."""

import re

import numpy as np
import pytest
from drawn import strip
from expected import compared, seen

pytestmark = pytest.mark.browser

MODEL = "pylm-outliers"
QKV = tuple(f"model.layers.0.self_attn.{part}_proj" for part in "qkv")


def test_notebook_runs_and_its_slider_draws_what_smoothing_will_do(
    new_page, voila, pictures
) -> None:
    page = new_page("teaching")
    page.goto(f"{voila}/voila/render/outlier_smoothing.ipynb", wait_until="commit")
    found, channels = compared(MODEL, 0.5, samples=24), seen(MODEL, *QKV)  # meanwhile
    code = page.locator("pre[data-language=python]")  # drawn by the last cell
    code.filter(has_text="alpha=").wait_for(timeout=300_000)

    # What was measured, read off the chart, is what a script measures.
    measured = strip(page, "measured")
    point = measured.locator.locator("circle[data-alpha='0.5']")
    drawn = measured.value("y", point.get_attribute("cy"))
    assert drawn == pytest.approx(found.kl, rel=0.01)
    assert measured.value("x", point.get_attribute("cx")) == pytest.approx(0.5)
    perplexity = re.search(r"perplexity ([\d.]+)", point.text_content())
    assert float(perplexity[1]) == pytest.approx(found.perplexity, rel=2e-3)

    points = measured.locator.locator("circle").all()
    best = max(points, key=lambda p: float(p.get_attribute("cy"))).get_attribute("data-alpha")
    code.filter(has_text=f"alpha={best}").wait_for()
    explorer = page.locator("[data-view=alpha]")
    explorer.screenshot(path=pictures / "alpha.png")

    # The slider draws the arithmetic, and the script follows it.
    explorer.get_by_label("Input of").select_option(
        label="layers.0.self_attn.[q_proj k_proj v_proj]"
    )
    by_activation = np.argsort(-channels.x, kind="stable")
    number = explorer.get_by_label("alpha, as a number")
    number.fill("0.3")
    slider = explorer.get_by_role("slider", name="alpha")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "0.29"
    for name, after in zip(("activation", "weight"), channels.smoothed(0.29), strict=True):
        curve = strip(page, name).curve(name)[1]
        np.testing.assert_allclose(curve, after[by_activation], rtol=2e-3)
    code.filter(has_text="alpha=0.29").wait_for()
    page.set_viewport_size({"width": 1280, "height": 4000})
    page.screenshot(path=pictures / "teaching-light.png")
