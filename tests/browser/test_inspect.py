"""Model, layers and outliers on pages of their own: what is drawn, how fast, how it looks."""

import json

import numpy as np
import pytest
import torch
from bare import html
from drawn import Plot, pixels
from expected import colour, model, seen
from made import made_statistics

import workbench as wb
from workbench.widgets import LayerTable, ModelCard, OutlierView

pytestmark = pytest.mark.browser

MODEL = "pylm-outliers"
QKV = tuple(f"model.layers.0.self_attn.{part}_proj" for part in "qkv")
SIZES = {"laptop": (1366, 768), "projector": (1920, 1080)}
REPAINTS = 40
LIMIT_MS = 50
TABS = ("where", "which", "why")
# German and French run a third longer than English, and some words twice as long.
LENGTHEN = """() => document.querySelectorAll(
    '.qw button, .qw label > span, .qw summary, .qw th, .qw h3').forEach((node) => {
        if (!node.children.length) node.textContent += ' Überprüfungsverfahren'; })"""
CLIPPED = """() => [...document.querySelectorAll('.qw *')].filter((node) =>
    node.offsetParent && !node.closest('.qw-scroll, svg') && node.tagName !== 'SELECT'
    && getComputedStyle(node).overflow !== 'visible' && node.scrollWidth > node.clientWidth + 1
    ).map((node) => node.outerHTML.slice(0, 120))"""
# Times each of many actions until the frame that shows it is painted.
TIMED = """async ([action, count]) => {
    const run = new Function('i', action);
    const taken = [];
    for (let i = 0; i < count; i++) {
        await new Promise((go) => requestAnimationFrame(go));
        const start = performance.now();
        run(i);
        await new Promise((go) => requestAnimationFrame(() => {
            const channel = new MessageChannel();  // heard after the frame
            channel.port1.onmessage = go;
            channel.port2.postMessage(0);
        }));
        taken.push(performance.now() - start);
    }
    return taken;
}"""
KEY = """document.querySelector('{}').dispatchEvent(
    new KeyboardEvent('keydown', {{key: '{}', bubbles: true}}))"""
CHOICE = """const a = new Float32Array(4096).map((_, c) => 1 + ((c * (i + 3)) % 97));
    model.set('absmax', new DataView(a.buffer))"""
ACTIONS = {
    "which": CHOICE,
    "where": KEY.format("canvas.qw-heat", "ArrowDown"),
    "why": KEY.format("canvas.qw-surface", "ArrowLeft"),
}


@pytest.fixture(scope="module")
def session():
    made = wb.Session(MODEL)
    made.observe()
    yield made
    made.close()


@pytest.fixture
def outliers(new_page, session):
    """Opens the outlier view on a page, as the kernel would send it."""

    def open_view(theme="light", size=(1000, 1200), **options):
        page = new_page("outliers")
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.set_content(html(OutlierView(session, **options), theme=theme))
        page.wait_for_selector("[data-view=outliers]")
        return page

    return open_view


def test_which_draws_the_channels_and_says_them_under_the_keys(outliers) -> None:
    page = outliers()
    plot = Plot(page.locator("svg[data-y0]"))
    found = seen(MODEL, *QKV)
    by_activation = np.argsort(-found.x, kind="stable")
    np.testing.assert_allclose(plot.curve("activation")[1], found.x[by_activation], rtol=2e-3)
    np.testing.assert_allclose(plot.curve("weight")[1], found.w[by_activation], rtol=2e-3)
    after = found.smoothed(0.5)[0]
    np.testing.assert_allclose(plot.curve("after")[1], after[by_activation], rtol=2e-3)
    page.locator(".qw-chart-box").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    says = page.locator("p.qw-detail[data-channel]").first
    assert int(says.get_attribute("data-channel")) == by_activation[4]
    assert float(says.get_attribute("data-value")) == pytest.approx(found.x[by_activation[4]])


def test_where_draws_every_row_in_its_colours(outliers, session) -> None:
    page = outliers(view="where")
    canvas = page.locator("canvas.qw-heat")
    top = float(canvas.get_attribute("data-top"))
    assert int(canvas.get_attribute("data-rows")) == len(session.statistics)
    found = seen(MODEL, *QKV)
    levels = np.log10(found.x / np.sort(found.x)[(len(found.x) - 1) // 2])
    drawn = colour(levels / top)
    for _ in range(50):  # a frame later on a busy machine
        if np.abs(pixels(page, 0, len(levels)) - drawn).max() <= 2:
            break
        page.wait_for_timeout(100)
    np.testing.assert_allclose(pixels(page, 0, len(levels)), drawn, atol=2)
    canvas.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.evaluate("model.get('row')") == list(session.statistics.entries)[1]
    page.locator("summary").first.click()
    page.locator("table.qw-table tbody tr").first.wait_for()
    assert page.locator("table.qw-table tbody tr").count() == len(session.statistics)


def projected(vertex, counts, height, camera, size=(520, 340)):
    """Where on the canvas the vertex is: turned about the height, tipped, seen from afar."""
    x, y = (2 * at / (count - 1) - 1 for at, count in zip(vertex, counts, strict=True))
    azimuth, elevation = np.radians(camera)
    y *= 0.72
    right = x * np.cos(azimuth) - y * np.sin(azimuth)
    near = x * np.sin(azimuth) + y * np.cos(azimuth)
    unit = 0.35 * size[0]
    up = (height - 0.35) * 0.62 * 2 * 0.62
    down = near * np.sin(elevation) - up * np.cos(elevation)
    return size[0] / 2 + unit * right, 0.52 * size[1] + unit * down


def test_why_draws_the_peaks_where_they_are_and_their_tokens_as_text(outliers) -> None:
    page = outliers(view="why")
    loaded = model(MODEL)
    found = seen(MODEL, *QKV)
    loudest = int(np.argmax(found.x))
    cause = page.locator(f".qw-causes li[data-channel='{loudest}']")
    assert float(cause.get_attribute("data-value")) == pytest.approx(found.x.max(), rel=1e-5)
    # The token is that of a plain forward pass.
    texts = []
    layer = loaded.model.get_submodule(QKV[0])

    def hook(_, arguments):
        x = arguments[0][..., loudest].abs()
        if x.max() >= found.x.max() * (1 - 1e-6):
            row, at = divmod(int(x.argmax()), x.shape[1])
            texts.append(loaded.tokenizer.decode(batch["input_ids"][row, at : at + 1]))

    handle = layer.register_forward_pre_hook(hook)
    with torch.no_grad():
        for batch in loaded.batches("calibration", samples=32, length=256, batch_size=8, seed=0):
            loaded.model(**batch)
    handle.remove()
    assert cause.locator("mark").text_content() in [t.replace("\n", "⏎") for t in texts]

    canvas = page.locator("canvas.qw-surface").first
    surfaces = page.locator(".qw-surfaces")
    channels = page.evaluate("model.get('surface_channels')")
    tokens = page.evaluate("model.get('surface_tokens').length")
    peak = int(canvas.get_attribute("data-peak"))
    assert channels[peak % len(channels)] == loudest
    for _ in range(3):
        canvas.focus()
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(60)
    camera = [float(surfaces.get_attribute(f"data-{name}")) for name in ("azimuth", "elevation")]
    assert camera == [43, 32]
    vertex = (peak % len(channels), peak // len(channels))
    x, y = projected(vertex, (len(channels), tokens), 1.0, camera)
    assert float(canvas.get_attribute("data-x")) == pytest.approx(x, abs=0.01)
    assert float(canvas.get_attribute("data-y")) == pytest.approx(y, abs=0.01)
    # Just below the tip, which is thinner than a pixel, the picture has the brightest colour.
    read = "(c, [x, y]) => [...c.getContext('2d').getImageData(x, y, 5, 12).data]"
    around = np.array(canvas.evaluate(read, [int(x) - 2, int(y)])).reshape(-1, 4)
    shares = around[around[:, 3] == 255, :3] / colour(np.array([1.0]))[0]
    assert any(share.min() > 0.7 and np.ptp(share) < 0.05 for share in shares), shares
    # Under the pointer: the value before and after.
    box = canvas.bounding_box()
    scale = box["width"] / 520
    canvas.hover(position={"x": x * scale, "y": (y + 3) * scale})
    says = page.locator("p.qw-detail[data-token]")
    assert int(says.get_attribute("data-channel")) == loudest
    assert float(says.get_attribute("data-value")) == pytest.approx(found.x.max(), rel=1e-5)
    after = found.smoothed(0.5)[0].max()
    assert f"{after:.3g} after" in says.inner_text()


def test_text_of_a_token_is_never_markup(outliers) -> None:
    page = outliers(view="why")
    evil = {"before": "<img src=x onerror=window.hit=1>", "token": "<b>", "after": "&lt;"}
    peaks = [{"channel": 1, "value": 2.0, "position": 3, **evil}]
    page.evaluate(f"model.set('peaks', {json.dumps(peaks)})")
    page.locator(".qw-causes mark").filter(has_text="<b>").wait_for()
    assert page.locator(".qw-causes img").count() == 0
    assert page.evaluate("window.hit") is None
    assert page.locator(".qw-causes code").inner_text().startswith("<img")


def test_repaint_at_32_layers_by_4096_channels(new_page, pictures) -> None:
    """At most 50 ms at the 95th percentile, from the key or the new choice to the painted frame.

    On a busy machine, where even an empty frame comes late, the page's own processor time counts.
    """
    large = wb.Session(MODEL)
    large.load()
    large.statistics = made_statistics(32, 4096)
    page = new_page("large")
    page.set_viewport_size({"width": 1000, "height": 1000})
    page.set_content(html(OutlierView(large)))
    large.close()
    page.wait_for_selector("svg[data-y0]")
    taken = {}
    for name, action in ACTIONS.items():
        page.evaluate(f"model.set('view', '{name}')")
        page.evaluate(TIMED, [action, 10])
        rounds = [np.percentile(page.evaluate(TIMED, [action, REPAINTS]), 95) for _ in range(3)]
        taken[name] = {"painted": min(rounds), "computed": _computed(page, action)}
        page.screenshot(path=pictures / f"large-{name}.png")
    idle = np.percentile(page.evaluate(TIMED, ["", REPAINTS]), 95)
    (pictures / "repaint.json").write_text(json.dumps(taken | {"idle": idle}))
    kind = "painted" if idle < 20 else "computed"
    assert all(found[kind] <= LIMIT_MS for found in taken.values()), taken


def _computed(page, action: str) -> float:
    """The 95th percentile of the main thread's processor time for one action, in ms."""
    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        found = tools.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in found if metric["name"] == "TaskDuration")

    taken = []
    for _ in range(REPAINTS):
        before = spent()
        page.evaluate(TIMED, [action, 1])
        taken.append(1e3 * (spent() - before))
    return float(np.percentile(taken, 95))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_nothing_is_clipped_also_in_longer_languages(
    new_page, session, pictures, theme, size
) -> None:
    page = new_page("looks")
    page.set_viewport_size({"width": size[0], "height": size[1]})
    views = {"model": ModelCard(session), "layers": LayerTable(session)}
    views |= {f"outliers {tab}": OutlierView(session, view=tab) for tab in TABS}
    for name, view in views.items():
        page.set_content(html(view, theme=theme))
        page.wait_for_selector("section.qw")
        page.wait_for_timeout(150)
        page.screenshot(path=pictures / f"{name.replace(' ', '-')}-{theme}-{size[0]}.png")
        assert page.evaluate(CLIPPED) == []
        page.evaluate(LENGTHEN)
        assert page.evaluate(CLIPPED) == []
        assert page.evaluate("document.body.scrollWidth <= innerWidth")
