"""The browser halves alone: sums, keys, long words, high contrast, and how fast they repaint."""

import numpy as np
import pytest
from drawn import Plot, brightness
from stage import repaint_ms, show

pytestmark = pytest.mark.browser

BLOCKS = 32
PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NAMES = [f"model.layers.{i}.part.{part}" for i in range(BLOCKS) for part in PARTS]
LONG = {
    "de": "Quantisierungsempfindlichkeitsverteilung",
    "fr": "dégradation prévisionnelle de l'apprentissage",
    "zh": "量化敏感度分布与训练损失的恢复程度",
}

PREDICTED = {
    "key": "predicted 0",
    "kind": "predicted",
    "error": 0.4,
    "bytes": 9e7,
    "ms": None,
    "label": "4 bits",
    "current": False,
}
MEASURED = {
    "key": "run",
    "kind": "measured",
    "error": 0.02,
    "bytes": 2.2e8,
    "ms": 12.0,
    "label": "int8",
    "current": True,
    "samples": 16320,
    "seed": 3,
    "made": "2026-01-01 10:00",
    "perplexity": 9.0,
}


@pytest.fixture(scope="module")
def page(new_page):
    made = new_page("stage")
    made.set_viewport_size({"width": 1366, "height": 768})
    return made


def rows() -> list[dict]:
    random = np.random.default_rng(0)
    made = []
    for name in NAMES:
        harm = sorted(random.lognormal(-6, 2, 5), reverse=True)
        size = int(random.integers(1000, 9000)) * 64
        made.append(
            {
                "name": name,
                "group": name.rsplit(".", 1)[0],
                "parameters": size,
                "float_bytes": 4 * size,
                "bytes": {str(b): size * b // 8 for b in (2, 3, 4, 6, 8)},
                "refused": {"16": "no 16-bit weights"},
                "damage": dict(zip(("2", "3", "4", "6", "8"), harm, strict=True)),
            }
        )
    return made


def bits_traits(**changed) -> dict:
    return {
        "rows": rows(),
        "bits": dict.fromkeys(NAMES, 8),
        "other_bytes": 1_000_000,
        "measure_of": "kl",
        "points": [PREDICTED, MEASURED],
        "float_point": {"bytes": 7e8, "ms": 30.0},
        "sort": "error",
        "axis": "size",
        "scales": "channel",
        "budget": 100.0,
        "budget_kind": "MB",
        "group": NAMES[0].rsplit(".", 1)[0],
        "can_undo": True,
        "can_redo": False,
        "history": "",
    } | changed


def alpha_traits(channels: int, **changed) -> dict:
    random = np.random.default_rng(1)
    return {
        "alpha": 0.5,
        "smooth": True,
        "only": False,
        "own": {},
        "automatic": False,
        "on_release": True,
        "group": NAMES[0],
        "groups": NAMES[:128],
        "absmax": random.lognormal(0, 1, channels).astype("<f4").tobytes(),
        "weight_absmax": random.lognormal(-2, 0.3, channels).astype("<f4").tobytes(),
        "alphas": [None, 0.5],
        "points": [],
        "quantity": "",
        "errors": [{"alpha": 0.5, "sqnr_db": 31.2, "tokens": 64}],
        "suggestion": {
            "alphas": [0.0, 0.5, 1.0],
            "linear": [0.1, 0.01, 0.05],
            "block": [0.2, 0.03, None],
            "chosen": 0.5,
            "single": 0.5,
            "candidates": {"0.5": 0.01},
            "used": False,
        },
    } | changed


def training_traits() -> dict:
    losses = np.geomspace(1, 0.1, 60).astype("<f4")
    return {
        "steps": 100,
        "learning_rate": 1e-4,
        "distil": True,
        "held_out": 1,
        "planned": True,
        "advice": "The quantized model is 5.28 nats a token from the float one.",
        "offered": True,
        "losses": losses.tobytes(),
        "judged": {"0": 1.1, "30": 0.5, "60": 0.6},
        "kept": 30,
        "paused": False,
    }


def code_traits() -> dict:
    return {
        "language": "changes",
        "python": "import workbench as wb",
        "json": "{}",
        "against": "default",
        "others": [["default", "the default recipe"]],
        "changes": [{"field": "smoothing.alpha", "before": "0.5", "after": "0.7"}],
        "runs": [],
        "history": "",
        "link": "?recipe=abc",
    }


VIEWS = {
    "bits_editor": bits_traits,
    "alpha_explorer": lambda: alpha_traits(512),
    "training_panel": training_traits,
    "code_view": code_traits,
}


def test_size_and_damage_follow_a_click_at_once_and_are_sums(page) -> None:
    show(page, "bits_editor", bits_traits())
    made = rows()
    target = f"tr[data-layer='{NAMES[5]}']"
    page.locator(f"{target} [data-bits='4']").click()
    assert page.evaluate("sent") == [{"call": "set_bits", "arguments": [NAMES[5], 4]}]
    size = 1_000_000 + sum(r["bytes"]["4" if r["name"] == NAMES[5] else "8"] for r in made)
    harm = sum(r["damage"]["4" if r["name"] == NAMES[5] else "8"] for r in made)
    total = page.locator(".qw-total")
    assert float(total.get_attribute("data-bytes")) == size
    assert float(total.get_attribute("data-damage")) == pytest.approx(harm, rel=1e-12)
    # The diamond of these bits stands where size and damage are.
    plot = Plot(page.locator("svg[data-strip=front]"))
    path = page.locator("path[data-kind=now]").get_attribute("d")
    corners = np.array([part.split() for part in path[1:-1].split("L")], dtype=float)
    x, y = corners[0, 0], corners[1, 1]
    assert plot.value("x", x) == pytest.approx(size / 1e6, rel=1e-3)
    assert plot.value("y", y) == pytest.approx(harm, rel=1e-2)
    # Predicted hollow, measured solid, the float model at the foot.
    fills = {
        kind: page.locator(f"[data-strip=front] [data-kind={kind}]").first.evaluate(
            "node => getComputedStyle(node).fill"
        )
        for kind in ("predicted", "measured", "float")
    }
    assert len(set(fills.values())) == 3
    page.locator("circle[data-key=run]").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("sent.at(-1)") == {"call": "restore", "arguments": ["run"]}
    assert "seed 3" in page.locator("circle[data-key=run]").get_attribute("aria-label")
    assert "16,320 samples" in page.locator("circle[data-key=run]").get_attribute("aria-label")


def test_rows_come_by_damage_for_each_byte_saved_and_keep_their_places(page) -> None:
    show(page, "bits_editor", bits_traits())
    order = "[...document.querySelectorAll('tr[data-layer]')].map((tr) => tr.dataset.layer)"
    rates = {r["name"]: r["damage"]["8"] / (r["float_bytes"] - r["bytes"]["8"]) for r in rows()}
    first = page.evaluate(order)
    assert first == sorted(NAMES, key=lambda name: -rates[name])
    page.locator(f"tr[data-layer='{first[9]}'] [data-bits='2']").click()
    assert page.evaluate(order) == first, "a row must not run away from under the mouse"
    page.get_by_role("button", name="Sort again").click()
    assert page.evaluate(order) != first
    page.evaluate("model.set('sort', 'order')")
    assert page.evaluate(order) == NAMES


def test_bits_by_keyboard_by_pattern_and_not_what_is_refused(page) -> None:
    show(page, "bits_editor", bits_traits(sort="order"))
    page.locator(f"tr[data-layer='{NAMES[0]}'] [data-bits='8']").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate("sent.at(-1)") == {"call": "set_bits", "arguments": [NAMES[1], 4]}
    refused = page.locator(f"tr[data-layer='{NAMES[0]}'] [data-bits='16']")
    assert refused.get_attribute("aria-disabled") == "true"
    assert refused.get_attribute("title") == "no 16-bit weights"
    refused.click(force=True)
    assert page.evaluate("sent.length") == 1
    field = page.get_by_label("Layers like")
    for pattern, count in (
        ("*.up_proj", 32),
        ("*.layers.3.*", 7),
        ("*.layers.[12].part.?_proj", 8),
    ):
        field.fill(pattern)
        page.get_by_text(f"matches {count} layers").wait_for()
    page.get_by_role("combobox", name="get").select_option("skip")
    page.get_by_role("button", name="Set").click()
    sent = {"call": "set_bits", "arguments": ["*.layers.[12].part.?_proj", None]}
    assert page.evaluate("sent.at(-1)") == sent
    skipped = page.locator("[data-bits=skip][aria-checked=true]")
    assert skipped.count() == 8
    field.fill("*.nothing")
    assert page.get_by_role("button", name="Set").is_disabled()


def test_measured_and_searched_alphas_are_drawn_where_they_are(page) -> None:
    show(page, "alpha_explorer", alpha_traits(512))
    local = Plot(page.locator("svg[data-strip=local]"))
    dot = local.locator.locator("circle[data-alpha='0.5']")
    assert local.value("x", dot.get_attribute("cx")) == pytest.approx(0.5, abs=1e-3)
    assert local.value("y", dot.get_attribute("cy")) == pytest.approx(31.2, rel=1e-3)
    sweep = Plot(page.locator("svg[data-strip=suggestion]"))
    alphas, errors = sweep.curve("activation")
    np.testing.assert_allclose(alphas, [0, 0.5, 1], atol=1e-3)
    np.testing.assert_allclose(errors, [0.1, 0.01, 0.05], rtol=5e-3)
    page.get_by_role("button", name="Use for all inputs").click()
    assert page.evaluate("sent.at(-1)") == {"call": "use", "arguments": []}


def test_losses_are_drawn_as_they_are(page) -> None:
    show(page, "training_panel", training_traits())
    plot = Plot(page.locator("svg[data-strip=training]"))
    steps, drawn = plot.curve("activation")
    np.testing.assert_allclose(steps, np.arange(1, 61), rtol=1e-2)
    np.testing.assert_allclose(drawn, np.geomspace(1, 0.1, 60), rtol=5e-3)
    judged = plot.locator.locator("circle[data-step='30']")
    assert plot.value("y", judged.get_attribute("cy")) == pytest.approx(0.5, rel=5e-3)
    kept = plot.locator.locator("line[data-kept='30']").get_attribute("x1")
    assert plot.value("x", float(kept)) == pytest.approx(30, rel=1e-3)


@pytest.mark.parametrize("view", VIEWS)
def test_every_chart_has_a_table_and_every_control_a_name(page, view) -> None:
    show(page, view, VIEWS[view]())
    charts = page.locator("svg[data-strip]")
    predicted = 3 if view == "alpha_explorer" else 0  # the preview says its figures in words
    tables = page.locator("details table")
    assert tables.count() >= charts.count() - predicted
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, svg[role]')].filter(
        (node) => !node.hidden && !node.getAttribute('aria-label') && !node.textContent.trim()
            && !node.labels?.length).map((node) => node.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("language", LONG)
def test_long_words_of_other_languages_are_not_clipped(page, view, language, pictures) -> None:
    show(page, view, VIEWS[view]())
    clipped = page.evaluate(
        """(word) => {
        const worded = '.qw-field > span, .qw button:not([role=radio]), .qw h3, .qw figcaption';
        for (const node of document.querySelectorAll(worded)) node.textContent = word;
        const edge = document.querySelector('section.qw').getBoundingClientRect().right + 1;
        return [...document.querySelectorAll('.qw-field, ' + worded)].filter((node) => {
            const {width, right} = node.getBoundingClientRect();
            return width && (right > edge || node.scrollWidth > node.clientWidth + 1);
        }).map((node) => node.outerHTML.slice(0, 200));
    }""",
        LONG[language],
    )
    page.screenshot(path=pictures / f"long-{view}-{language}.png")
    assert clipped == []


def test_what_is_chosen_shows_without_colours(chromium, pictures) -> None:
    context = chromium.new_context(forced_colors="active", viewport={"width": 1366, "height": 768})
    page = context.new_page()
    show(page, "bits_editor", bits_traits())
    styles = [
        page.locator(f"[data-bits='{bits}'] b").first.evaluate(
            "node => [getComputedStyle(node).textDecorationLine, getComputedStyle(node).fontWeight]"
        )
        for bits in (8, 4)
    ]
    assert styles[0] != styles[1]
    page.screenshot(path=pictures / "bits-high-contrast.png")
    context.close()


@pytest.mark.parametrize(
    "host", ["", "--colab-primary-text-color: #eee; --colab-primary-surface-color: #222"]
)
def test_hosts_without_jupyterlabs_colours_are_followed_into_the_dark(page, host) -> None:
    show(page, "alpha_explorer", alpha_traits(64))
    assert brightness(page, "section.qw", "backgroundColor") > 0.9
    page.evaluate("own => document.documentElement.style = 'color-scheme: dark; ' + own", host)
    assert brightness(page, "section.qw", "backgroundColor") < 0.2
    assert brightness(page, "h3", "color") > 0.7
    assert brightness(page, ".qw select", "backgroundColor") < 0.3


def test_repaint_is_quick_at_the_size_of_a_large_model(page) -> None:
    """The preview of 4096 channels; 32 blocks of 7 layers with the front redrawn at each click."""
    show(page, "alpha_explorer", alpha_traits(4096))
    preview = repaint_ms(page, "input[type=range]", [i / 100 for i in range(1, 61)])
    x, w = (
        np.frombuffer(alpha_traits(4096)[name], "<f4").astype(float)
        for name in ("absmax", "weight_absmax")
    )
    s = x**0.6 / w**0.4
    hard = (x / s).max() / np.sort(x / s)[(len(x) - 1) // 2]
    shown = float(page.locator("output").get_attribute("data-activation"))
    assert shown == pytest.approx(hard, rel=1e-4)
    show(page, "bits_editor", bits_traits())
    clicks = repaint_ms(page, f"tr[data-layer='{NAMES[3]}'] [data-bits='4']", [None] * 60)
    assert preview < 40
    assert clicks < 40
