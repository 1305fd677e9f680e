"""The page step by step, as a visitor of the app walks through it; the recipe goes out as code."""

import json
import subprocess
import sys

import numpy as np
import pytest
from drawn import Plot, go
from expected import model

import workbench as wb

pytestmark = pytest.mark.browser

MODEL = "pylm-outliers"
SAMPLES, LENGTH = 4, 64
# What the exported script left behind, told by a program that knows no widget.
TELL = """
import sys
from workbench.session.keys import content_digest
assert not {"anywidget", "ipywidgets", "workbench.widgets"} & set(sys.modules)
print("told", content_digest(model), repr(report.perplexity), repr(report.kl))
"""


@pytest.fixture(scope="module")
def page(new_page, voila):
    """The app, its default model loaded, and little data to calibrate on."""
    made = new_page("steps")
    made.set_viewport_size({"width": 1366, "height": 768})
    made.goto(f"{voila}/voila/render/workbench.ipynb")
    made.locator(f"[data-fact=name][data-value={MODEL}]").wait_for()
    go(made, "calibrate")
    for label, value in (("Samples", SAMPLES), ("Tokens in each", LENGTH)):
        made.locator("[data-view=calibration]").get_by_label(label).fill(str(value))
        made.keyboard.press("Tab")
    go(made, "recipe")
    code = made.locator("pre[data-language=python]")
    code.filter(has_text=f"samples={SAMPLES}, length={LENGTH}").wait_for()
    return made


def data(split="calibration"):
    return model(MODEL).batches(split, samples=SAMPLES, length=LENGTH, batch_size=8, seed=0)


def test_one_step_shows_at_a_time_and_keys_go_through_them(page, pictures) -> None:
    go(page, "load")
    for name in ("model", "layers", "outliers", "alpha", "bits", "comparison", "code"):
        visible = page.locator(f"[data-view={name}]").is_visible()
        assert visible == (name in ("model", "layers")), name
    page.locator("[data-view=stepper] [aria-selected=true]").focus()
    for step, view in (("observe", "outliers"), ("smooth", "alpha"), ("quantize", "bits")):
        page.keyboard.press("ArrowRight")
        page.locator(f"[data-step={step}][aria-selected=true]").wait_for()
        assert page.locator(f"[data-view={view}]").is_visible()
    page.screenshot(path=pictures / "step-quantize.png")


def test_predicted_points_stand_where_the_functions_put_them(page, pictures) -> None:
    """Sensitivity and allocation as a script calls them; nothing of the session is used."""
    go(page, "quantize")
    page.get_by_role("button", name="Predict", exact=True).click()
    page.locator("circle[data-kind=predicted]").first.wait_for(timeout=300_000)
    loaded = model(MODEL)
    working = loaded.copy()
    wb.smooth(working, wb.observe(working, data()), alpha=0.5, exclude=["lm_head"])
    found = wb.sensitivity(working, data(), wb.widths(wb.QuantArgs()), exclude=["lm_head"])
    name, widths = next(iter(found.layers.items()))
    for damage in widths.values():
        shown = page.locator(f"tr[data-layer='{name}'] [data-bits='{damage.bits}']")
        assert float(shown.get_attribute("data-damage")) == pytest.approx(damage.output, rel=1e-3)

    plot = Plot(page.locator("svg[data-strip=front]"))
    circles = plot.locator.locator("circle[data-kind=predicted]").all()
    sizes = np.array([float(c.get_attribute("cx")) for c in circles])
    errors = np.array([float(c.get_attribute("cy")) for c in circles])
    spare = loaded.bytes - 4 * sum(found.parameters.values())
    for x, y in zip(plot.value("x", sizes), plot.value("y", errors), strict=True):
        budget = wb.Budget(kind="bytes", limit=x * 1e6 * 1.0005 - spare)
        best = wb.allocate(found, budget)
        assert (best.cost + spare) / 1e6 == pytest.approx(x, rel=2e-3)
        assert best.damage == pytest.approx(y, rel=0.02)
    page.screenshot(path=pictures / "bits.png")
    circles[4].click()
    page.locator(f"circle[data-key='{circles[4].get_attribute('data-key')}']").wait_for()
    page.locator("[data-view=bits] [aria-checked=true][data-bits='4']").first.wait_for()


def test_a_recipe_made_with_the_mouse_computes_the_same_as_code(page, tmp_path) -> None:
    go(page, "quantize")
    page.get_by_role(
        "button", name="Predict", exact=True
    ).click()  # which observes anew, on the little data
    page.locator("circle[data-kind=predicted]").first.wait_for(timeout=300_000)
    for pattern, bits in (("*", "8"), ("*.self_attn.*", "6")):
        page.get_by_label("Layers like").fill(pattern)
        page.get_by_role("combobox", name="get").select_option(bits)
        page.get_by_role("button", name="Set", exact=True).click()
    last = "model.layers.3.mlp.down_proj"
    page.locator(f"tr[data-layer='{last}'] [data-bits=skip]").click()
    go(page, "smooth")
    page.get_by_label("Only this input").check()
    number = page.get_by_label("alpha, as a number")
    number.fill("0.8")
    page.keyboard.press("Tab")
    go(page, "recipe")
    code = page.locator("pre[data-language=python]")
    code.filter(has_text="0.8").filter(has_text=last).wait_for()
    script = code.inner_text()
    page.click("[data-tab=json]")
    document = page.locator("pre[data-language=json]").inner_text()
    recipe = wb.Recipe.from_json(document)
    assert recipe.quantization.bits == {"*.self_attn.*": 6}
    assert recipe.quantization.exclude == ("lm_head", last)
    assert list(recipe.smoothing.overrides.values()) == [0.8]

    go(page, "compare")
    page.get_by_role("button", name="Compare", exact=True).click()
    row = page.locator("[data-view=comparison] tr[data-key=perplexity]")
    row.wait_for(timeout=300_000)
    kl = page.locator("[data-view=comparison] tr[data-key=kl]")
    ran = subprocess.run(
        [sys.executable, "-c", script + TELL],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    [digest, perplexity, divergence] = ran.stdout.split("told ")[1].split()
    assert float(row.get_attribute("data-quantized")) == pytest.approx(float(perplexity), rel=1e-9)
    assert float(kl.get_attribute("data-quantized")) == pytest.approx(float(divergence), rel=1e-9)

    from workbench.session.keys import content_digest

    session = wb.Session(recipe)
    assert content_digest(session.freeze()) == digest
    session.close()
    assert json.loads(recipe.to_json()) == json.loads(document)


def test_a_file_that_is_no_recipe_is_refused_in_place_and_one_that_is_loads(page) -> None:
    go(page, "recipe")
    error = page.locator("[data-view=code] .qw-error")
    chooser = page.locator("[data-view=code] input[type=file]")
    for content, words in (
        (b'{"model": "/etc"}', "no model '/etc' here"),
        (b'{"seed": -1}', "seed is -1"),
        (b"\x00\xff", "holds no recipe"),
    ):
        chooser.set_input_files({"name": "x.json", "mimeType": "text/plain", "buffer": content})
        error.filter(has_text=words).wait_for()
    good = wb.Recipe().with_model(MODEL).with_alpha(0.45).to_json().encode()
    chooser.set_input_files({"name": "x.json", "mimeType": "text/plain", "buffer": good})
    page.click("[data-tab=python]")
    page.locator("pre[data-language=python]").filter(has_text="alpha=0.45").wait_for()
    assert not error.is_visible()
