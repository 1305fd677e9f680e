"""The app as a visitor meets it: `workbench serve`, a real browser, the bundled models."""

import re

import numpy as np
import pytest
from drawn import Plot, brightness, go, pixels, strip
from expected import colour, compared, float_perplexity, seen

pytestmark = pytest.mark.browser

MODEL = "pylm-outliers"
QKV = tuple(f"model.layers.0.self_attn.{part}_proj" for part in "qkv")


@pytest.fixture(scope="module")
def bench(new_page, voila):
    """One visit: the workbench page, its default model loaded and observed."""
    page = new_page("visit")
    page.goto(f"{voila}/voila/render/workbench.ipynb")
    go(page, "all")
    page.wait_for_selector("[data-view=outliers] svg[data-y0]")
    return page


def calibrate_on(page, samples: int, length: int):
    """Fill in the calibration form as a person does; gives the panel."""
    panel = page.locator("[data-view=calibration]")
    for label, value in (("Samples", samples), ("Tokens in each", length)):
        panel.get_by_label(label).fill(str(value))
        page.keyboard.press("Tab")
    code = page.locator("pre[data-language=python]")
    code.filter(has_text=f"samples={samples}, length={length}").wait_for()
    return panel


def job(page, view: str):
    return page.locator(f"[data-view={view}] .qw-job")


def test_page_loads_and_draws_the_channels_of_the_default_model(bench, voila, pictures) -> None:
    bench.wait_for_selector("svg[data-strip=difficulty]")
    bench.screenshot(path=pictures / "voila-light.png")
    assert bench.locator("[data-fact=name]").get_attribute("data-value") == MODEL
    assert "Made to teach" in bench.locator("[data-view=model] .qw-note").inner_text()
    plot = Plot(bench.locator("[data-view=outliers] svg[data-y0]"))
    found = seen(MODEL, *QKV)
    ranks, drawn = plot.curve("activation")
    np.testing.assert_allclose(ranks, np.arange(1, len(found.x) + 1), rtol=2e-3)
    np.testing.assert_allclose(drawn, np.sort(found.x)[::-1], rtol=2e-3)
    by_activation = np.argsort(-found.x, kind="stable")
    np.testing.assert_allclose(plot.curve("weight")[1], found.w[by_activation], rtol=2e-3)
    labels = bench.locator("[data-view=outliers] circle.qw-top")
    channels = [int(c.get_attribute("data-channel")) for c in labels.all()]
    assert channels == by_activation[:6].tolist()


def test_heatmap_pixels_are_the_ratios(bench, pictures) -> None:
    bench.click("[data-tab=where]")
    bench.wait_for_selector("canvas.qw-heat")
    bench.locator("[data-view=outliers]").screenshot(path=pictures / "outliers.png")
    canvas = bench.locator("canvas.qw-heat")
    top = float(canvas.get_attribute("data-top"))
    found = seen(MODEL, *QKV)
    levels = np.log10(found.x / np.sort(found.x)[(len(found.x) - 1) // 2])
    assert top >= levels.max() * 0.999
    np.testing.assert_allclose(pixels(bench, 0, len(levels)), colour(levels / top), atol=2)
    canvas.focus()
    for _ in range(3):
        bench.keyboard.press("ArrowRight")
    says = bench.locator("[data-view=outliers] p.qw-detail[data-row]")
    assert float(says.get_attribute("data-value")) == pytest.approx(levels[3], abs=1e-4)
    assert "channel 3:" in says.inner_text()


def test_slider_draws_exactly_what_smoothing_will_do(bench) -> None:
    bench.wait_for_selector("svg[data-strip=difficulty]")
    found = seen(MODEL, *QKV)
    by_activation = np.argsort(-found.x, kind="stable")
    slider = bench.get_by_role("slider", name="alpha")
    slider.focus()
    for key, presses, alpha in (("ArrowRight", 20, 0.7), ("ArrowLeft", 40, 0.3)):
        for _ in range(presses):
            bench.keyboard.press(key)
        after_x, after_w = found.smoothed(alpha)
        drawn_x = strip(bench, "activation").curve("activation")[1]
        np.testing.assert_allclose(drawn_x, after_x[by_activation], rtol=2e-3)
        drawn_w = strip(bench, "weight").curve("weight")[1]
        np.testing.assert_allclose(drawn_w, after_w[by_activation], rtol=2e-3)
        difficulty = strip(bench, "difficulty")
        now = difficulty.locator.locator("line.qw-now").get_attribute("x1")
        assert difficulty.value("x", float(now)) == pytest.approx(alpha, abs=1e-3)
        alphas, curve = difficulty.curve("activation")
        hard = after_x.max() / np.sort(after_x)[(len(after_x) - 1) // 2]
        assert np.interp(alpha, alphas, curve) == pytest.approx(hard, rel=2e-3)
    # Released: the recipe has it, and says so as code.
    code = bench.locator("pre[data-language=python]")
    code.filter(has_text="alpha=0.3").wait_for()
    bench.get_by_label("alpha, as a number").fill("0.55")
    bench.keyboard.press("Tab")
    code.filter(has_text="alpha=0.55").wait_for()


def test_calibration_shows_progress_is_cancelled_and_then_done(bench) -> None:
    panel = calibrate_on(bench, 2000, 4)
    panel.get_by_role("button", name="Calibrate").click()
    running = job(bench, "calibration")
    running.filter(has_text=re.compile(r"[1-9]\d* of \d+ · about \d+ s left")).wait_for()
    assert 0 < running.locator("progress").evaluate("node => node.value") < 1
    panel.get_by_role("button", name="Cancel").click()
    running.filter(has_text="calibrate: cancelled").wait_for(timeout=5_000)
    stages = panel.locator(".qw-stages")
    assert stages.get_attribute("data-stage") in ("loaded", "observed")
    calibrate_on(bench, 8, 64)
    panel.get_by_role("button", name="Calibrate").click()
    panel.locator(".qw-stages[data-stage=calibrated]").wait_for()


def test_comparison_shows_what_a_script_measures(bench, pictures) -> None:
    calibrate_on(bench, 32, 256)
    number = bench.get_by_label("alpha, as a number")
    number.fill("0.5")
    bench.keyboard.press("Tab")
    bench.locator("pre[data-language=python]").filter(has_text="alpha=0.5,").wait_for()
    bench.get_by_role("button", name="Compare").click()
    row = bench.locator("[data-view=comparison] tr[data-key=perplexity]")
    row.wait_for(timeout=300_000)  # 33,000 tokens through two models, on one thread
    expected = compared(MODEL, 0.5)
    assert float(row.get_attribute("data-float")) == pytest.approx(
        float_perplexity(MODEL), rel=1e-4
    )
    assert float(row.get_attribute("data-quantized")) == pytest.approx(
        expected.perplexity, rel=2e-3
    )
    shown = float(row.locator("td").nth(2).inner_text())
    assert shown == pytest.approx(expected.perplexity, rel=3e-3)
    # A bar is as long as its share of the best layer.
    bars = bench.locator(".qw-bar").all()
    widths = {bar.get_attribute("data-layer"): bar.bounding_box()["width"] for bar in bars}
    sqnr = {layer.name: layer.sqnr_db for layer in expected.layers if np.isfinite(layer.sqnr_db)}
    best = max(sqnr, key=sqnr.get)
    for name, decibels in sqnr.items():
        assert widths[name] / widths[best] == pytest.approx(decibels / sqnr[best], abs=0.01)
    ops = bench.locator("[data-view=layers] td[data-key=op]").first
    assert ops.get_attribute("data-value").startswith("a8_linear")
    grid = bench.locator("[data-view=layers] .qw-scroll")
    assert grid.evaluate("node => node.scrollWidth <= node.clientWidth"), "a column is cut off"
    bench.click("[data-tab=which]")
    bench.set_viewport_size({"width": 1280, "height": 760})
    for step, name in (("observe", "workbench"), ("compare", "compare")):
        go(bench, step)
        bench.screenshot(path=pictures / f"{name}.png")
    bench.set_viewport_size({"width": 1280, "height": 2200})
    go(bench, "all")


def test_another_model_loads_and_dark_theme_reads(new_page, voila, pictures) -> None:
    page = new_page("dark")
    page.goto(f"{voila}/voila/render/workbench.ipynb?theme=dark")
    go(page, "all")
    page.wait_for_selector("[data-view=outliers] svg[data-y0]")
    page.get_by_role("combobox", name="Model").select_option("minilm")
    page.get_by_role("button", name="Load", exact=True).click()
    page.locator("[data-fact=name][data-value=minilm]").wait_for()
    query = "encoder.layer.0.attention.self"
    page.locator(f"[data-view=layers] [data-layer='{query}.query']").wait_for()
    page.wait_for_function(
        "document.querySelector('[data-select=row]').value.startsWith('encoder')"
    )
    found = seen("minilm", *(f"{query}.{part}" for part in ("query", "key", "value")))
    drawn = Plot(page.locator("[data-view=outliers] svg[data-y0]")).curve("activation")[1]
    np.testing.assert_allclose(drawn, np.sort(found.x)[::-1], rtol=2e-3)
    for card in ("model", "alpha", "comparison"):
        assert brightness(page, f"[data-view={card}]", "backgroundColor") < 0.2
        assert brightness(page, f"[data-view={card}] h3", "color") > 0.7
    page.screenshot(path=pictures / "voila-dark.png")


def test_every_control_has_a_name_and_a_bad_alpha_a_sentence(bench) -> None:
    nameless = bench.evaluate("""() => [...document.querySelectorAll(
        '.qw button, .qw input, .qw select, .qw canvas, .qw svg[role=img]')].filter(node =>
            !(node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.length
              || node.getAttribute('aria-hidden'))).map(node => node.outerHTML)""")
    assert nameless == []
    number = bench.get_by_label("alpha, as a number")
    number.fill("2")
    bench.keyboard.press("Tab")
    error = bench.locator("[data-view=alpha] .qw-error")
    error.filter(has_text="alpha is 2").wait_for()
    bench.wait_for_function("document.querySelector('.qw input[type=number]').value !== '2'")
    assert 0 <= float(number.input_value()) <= 1


def test_visitor_finds_no_field_for_a_path(bench) -> None:
    assert not bench.get_by_label("Folder or hub id").is_visible()
    assert bench.get_by_role("combobox", name="Model").locator("option").all_inner_texts() == [
        "pylm",
        "pylm-outliers",
        "minilm",
    ]
    assert not bench.get_by_role("button", name="Save").is_visible()
