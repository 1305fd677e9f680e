"""Two sides on a page of their own: what is drawn of made-up measurements, and how it looks."""

import base64
import io

import numpy as np
import pytest
from bare import html
from drawn import Plot
from PIL import Image

import workbench as wb
from workbench.compare import Comparison, LayerError, Speed, TaskScores, Timing, differences
from workbench.session.pairing import Pair, Ratio, Side
from workbench.widgets import ComparisonView

pytestmark = pytest.mark.browser

SIZES = {"laptop": (1366, 768), "projector": (1920, 1080)}
LAYERS = [f"model.layers.{block}.{part}" for block in range(16) for part in ("q_proj", "up_proj")]
AT = "node => node.getAttribute('transform').match(/[\\d.]+/g).map(Number)"
RANDOM = np.random.default_rng(3)
TIMES = {
    side: {kind: RANDOM.lognormal(np.log(ms), 0.1, 15) for kind, ms in kinds.items()}
    for side, kinds in {
        "a": {"prefill": 90, "decode": 6},
        "b": {"prefill": 50, "decode": 5},
    }.items()
}
ERRORS = {side: RANDOM.uniform(least, 45, len(LAYERS)) for side, least in (("a", 20), ("b", 5))}
LOSSES = {"a": RANDOM.normal(3, 0.5, 64)}
LOSSES["b"] = LOSSES["a"] + RANDOM.normal(0.02, 0.03, 64)


def side(name: str, recipe: "wb.Recipe") -> Side:
    times = {kind: Timing.of(found.tolist()) for kind, found in TIMES[name].items()}
    return Side(
        recipe=recipe,
        comparison=Comparison(
            perplexity=float(np.exp(LOSSES[name].mean())),
            layers=[
                LayerError(name=layer, sqnr_db=error)
                for layer, error in zip(LAYERS, ERRORS[name], strict=True)
            ],
        ),
        bytes=9_000_000,
        disk=7_000_000,
        speed=Speed(
            prefill_ms=times["prefill"],
            decode_ms=times["decode"],
            linear_ms=times["prefill"],
            prompt_tokens=512,
            threads=2,
        ),
    )


@pytest.fixture(scope="module")
def view():
    """Both sides are the recipe in force, so that no model is needed to name them."""
    session = wb.Session("pylm")
    scores = [
        TaskScores(
            task="held-out sequences",
            metric="loss, nats a token",
            higher_is_better=False,
            binary=False,
            scores=LOSSES[name].tolist(),
            documents="made up",
            seed=0,
        )
        for name in ("a", "b")
    ]
    ratio = Ratio(ratio=0.55, low=0.5, high=0.61)
    session.pairs["made"] = Pair(
        key="made",
        a=side("a", session.recipe),
        b=side("b", session.recipe),
        quality=differences(scores[:1], scores[1:])[0],
        prefill=ratio,
        decode=ratio,
    )
    made = ComparisonView(session, a="current")
    made.answers = {
        "kind": "causal-lm", "text": "def area(", "other": "", "tokens": 4, "same_tokens": 2,
        "a": "width, height):", "b": "width, <b>depth</b>):", "common": 6,
    }  # fmt: skip
    yield made
    session.close()


@pytest.fixture
def page(new_page, view):
    opened = new_page("sides")
    opened.set_content(html(view))
    opened.wait_for_selector("[data-view=comparison]")
    return opened


def marks(plot: Plot, name: str) -> np.ndarray:
    """Where the marks of one side stand, as values [n, 2]."""
    found = plot.locator.locator(f"path[data-side={name}]").all()
    pixels = np.array([mark.evaluate(AT) for mark in found])
    return np.stack([plot.value("x", pixels[:, 0]), plot.value("y", pixels[:, 1])], -1)


@pytest.mark.parametrize("kind", ["prefill", "decode"])
def test_strips_draw_every_timing_with_quartiles_and_median(page, kind) -> None:
    plot = Plot(page.locator(f"svg[data-chart={kind}]"))
    for name, rows in (("a", (1, 2)), ("b", (0, 1))):
        taken = TIMES[name][kind]
        drawn = marks(plot, name)
        room = np.ptp(plot.value("x", [0, 1])) * 0.02  # of a pixel
        np.testing.assert_allclose(drawn[:, 0], taken, atol=room)
        assert ((drawn[:, 1] > rows[0]) & (drawn[:, 1] < rows[1])).all()
        box = plot.locator.locator(f"[data-box={name}]")
        left, width = (float(box.get_attribute(part)) for part in ("x", "width"))
        ends = plot.value("x", [left, left + width])
        np.testing.assert_allclose(ends, np.percentile(taken, [25, 75]), atol=room)
        middle = plot.locator.locator(f"[data-median={name}]").get_attribute("x1")
        assert plot.value("x", middle) == pytest.approx(np.median(taken), abs=room)
    words = page.locator(f"[data-words={kind}] + p").inner_text()
    low, middle, high = np.percentile(TIMES["a"][kind], [25, 50, 75])
    assert "On 2 threads" in words
    assert f"A ± {float(f'{50 * (high - low) / middle:.2g}'):g} %" in words


def test_layers_are_drawn_in_order_and_said_under_the_keys(page) -> None:
    plot = Plot(page.locator("svg[data-chart=layers]"))
    for name, expected in ERRORS.items():
        drawn = marks(plot, name)
        np.testing.assert_allclose(drawn[:, 0], np.arange(len(LAYERS)), atol=0.01)
        np.testing.assert_allclose(drawn[:, 1], expected, atol=0.01)
    box = page.locator(".qw-sides .qw-chart-box")
    box.focus()
    for keys, at in ((["Home"], 0), (["ArrowRight"] * 3, 3), (["End"], -1), (["ArrowLeft"], -2)):
        for key in keys:
            page.keyboard.press(key)
        said = page.locator(".qw-chart-box + p").inner_text()
        assert said.startswith(f"{LAYERS[at].removeprefix('model.')}: A {ERRORS['a'][at]:.3g} dB")
    box.evaluate("node => node.blur()")


def test_the_difference_is_drawn_with_its_interval(page) -> None:
    plot = Plot(page.locator("svg[data-chart=quality]"))
    difference = LOSSES["b"] - LOSSES["a"]
    standard = difference.std(ddof=1) / np.sqrt(len(difference))
    low, high = plot.curve("interval")[0]
    middle = plot.value("x", plot.locator.locator("circle").get_attribute("cx"))
    assert middle == pytest.approx(difference.mean(), abs=1e-4)
    assert low == pytest.approx(difference.mean() - 1.96 * standard, abs=0.3 * standard)
    assert high == pytest.approx(difference.mean() + 1.96 * standard, abs=0.3 * standard)
    assert page.locator("[data-words=quality]").inner_text().startswith("B is worse than A")


def test_the_first_divergence_is_marked_and_nothing_typed_is_parsed(page) -> None:
    answers = page.locator(".qw-sides .qw-chat-text")
    assert [found.locator("mark").text_content() for found in answers.all()] == [
        "differs from here: ≠height):",
        "differs from here: ≠<b>depth</b>):",
    ]
    page.get_by_label("Text to go on with").fill("x = 1")
    page.get_by_role("button", name="Ask A and B").click()
    assert page.evaluate("window.sent.at(-1)") == {"call": "answer", "arguments": ["x = 1", ""]}
    page.get_by_label("Side B").select_option("float")
    assert page.evaluate("window.model.get('b')") == "float"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_fits_and_every_picture_has_a_table(new_page, view, pictures, theme, size) -> None:
    page = new_page("sides")
    page.set_viewport_size(dict(zip(("width", "height"), SIZES[size], strict=True)))
    page.set_content(html(view, theme=theme))
    page.wait_for_selector("svg[data-chart=layers]")
    page.screenshot(path=pictures / f"sides-{theme}-{size}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for figure in page.locator(".qw-side-grid figure").all():
        assert figure.locator("svg[role=img][aria-label]").count() == 1
        figure.get_by_text("Show as a table").click()
        assert figure.locator("tbody tr").first.is_visible()


def test_a_picture_goes_to_both_and_a_flip_of_their_choice_is_marked(new_page, pictures) -> None:
    content = io.BytesIO()
    Image.linear_gradient("L").resize((160, 100)).save(content, "PNG")
    session = wb.Session("pylm")
    shown = ComparisonView(session)
    shown.kind = "image-classifier"
    shown.picture = content.getvalue()
    ranked = [{"label": name, "probability": 0.4 - i / 10} for i, name in enumerate(("cat", "dog"))]
    names = {"kind": "image-classifier", "text": "<i>beast</i>.png", "other": ""}
    shown.answers = {**names, "a": ranked, "b": ranked[::-1]}
    page = new_page("picture")
    page.set_content(html(shown))
    words = page.locator("[data-words=answers]")
    assert "The choice flips, marked ≠: A takes it for cat, B for dog." in words.inner_text()
    assert page.locator("[data-variant=A] mark").inner_text() == "cat"
    assert page.locator("[data-variant=B] td").all_inner_texts()[:3] == ["≠", "dog", "30 %"]
    image = page.get_by_role("img", name="<i>beast</i>.png")
    page.wait_for_function("document.querySelector('.qw-picture').naturalWidth === 160")
    assert image.is_visible()
    assert not page.get_by_role("button", name="Ask A and B").is_visible()
    page.locator("[data-view=comparison]").screenshot(path=pictures / "picture.png")

    chooser = page.get_by_label("Picture, PNG or JPEG")
    small = {"name": "x.png", "mimeType": "image/png", "buffer": content.getvalue()}
    chooser.set_input_files(small)
    page.wait_for_function("window.sent.length === 1")
    sent = page.evaluate("window.sent[0]")
    assert sent["call"] == "look"
    assert base64.b64decode(sent["arguments"][1]) == content.getvalue()
    chooser.set_input_files(small | {"buffer": bytes(2_600_000)})
    page.wait_for_function("window.sent.length === 2")
    assert page.evaluate("window.sent[1].arguments") == ["x.png", "", 2_600_000]
    page.evaluate("""model.set('answers', {...model.get('answers'), b: model.get('answers').a})""")
    assert words.inner_text() == "Both rank the classes alike."
    session.close()
