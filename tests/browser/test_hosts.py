"""The views where no JupyterLab is: a plain host of anywidgets; Colab's and VS Code's colours."""

import pytest
from bare import html

import workbench as wb
from workbench.widgets import Workbench

pytestmark = pytest.mark.browser

# What each host says of itself: a class of the body, and variables of the page.
VSCODE = (
    "--vscode-editor-foreground: #d4d4d4; --vscode-editor-background: #1e1e1e;"
    "--vscode-descriptionForeground: rgba(204, 204, 204, 0.7);"
    "--vscode-input-background: #3c3c3c; --vscode-editorWidget-background: #252526;"
    "--vscode-panel-border: rgba(128, 128, 128, 0.35); --vscode-charts-blue: #3794ff;"
    "--vscode-charts-orange: #d18616; --vscode-charts-green: #89d185;"
    "--vscode-textLink-foreground: #3794ff; --vscode-errorForeground: #f48771;"
    "--vscode-button-foreground: #ffffff; --vscode-button-background: #0e639c;"
    # ipywidgets' own stylesheet, of a light JupyterLab
    "--jp-ui-font-color1: rgba(0, 0, 0, 0.87); --jp-layout-color1: white;"
)
COLAB = (
    "color-scheme: dark; --colab-primary-text-color: #e3e3e3;"
    "--colab-secondary-text-color: #c4c7c5; --colab-primary-surface-color: #1f1f1f;"
    "--colab-secondary-surface-color: #282a2c; --colab-border-color: #444746;"
)
HOSTS = {
    "plain-light": ("", "color-scheme: light"),
    "plain-dark": ("", "color-scheme: dark"),
    "colab-dark": ("", COLAB),
    "vscode-dark": ("vscode-dark", VSCODE),
}

# Each text's contrast (WCAG 2.2) with what lies behind it, unless its control is switched off.
CONTRAST = """() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255);
    };
    const over = ([r, g, b, a], under) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a));
    const ground = (node) => {
        if (!node) return rgba('Canvas').slice(0, 3);
        const own = rgba(getComputedStyle(node).backgroundColor);
        return own[3] === 1 ? own.slice(0, 3) : over(own, ground(node.parentElement));
    };
    const light = (colour) => {
        const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = colour.map(linear);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        const text = walker.currentNode.data.trim();
        const off = node.closest('script, style, :disabled, [aria-disabled=true]');
        if (!text || off || !node.checkVisibility()) continue;
        const style = getComputedStyle(node);
        const behind = ground(node);
        const colour = over(rgba(node.closest('svg') ? style.fill : style.color), behind);
        const [low, high] = [light(colour), light(behind)].sort((a, b) => a - b);
        found.push([(high + 0.05) / (low + 0.05), text.slice(0, 40), node.outerHTML.slice(0, 120)]);
    }
    return found;
}"""
CLIPPED = """() => [...document.querySelectorAll('section.qw')].flatMap((section) => {
    const edge = section.getBoundingClientRect().right + 1;
    const worded = '.qw-field > span, button, h3, h4, figcaption, p, summary, .qw-scroll';
    return [...section.querySelectorAll(worded)].filter((node) => node.checkVisibility() && (
        node.getBoundingClientRect().right > edge || node.scrollWidth > node.clientWidth + 1
    )).map((node) => node.outerHTML.slice(0, 160));
})"""


@pytest.fixture(scope="module")
def page(new_page):
    """Every view of the workbench over an observed model, on a page without JupyterLab."""
    session = wb.Session("pylm-outliers")
    session.observe()
    bench = Workbench(session)
    views = [bench.stepper, *bench.views.values()]
    made = new_page("host")
    made.set_viewport_size({"width": 1100, "height": 900})
    made.set_content(html(*views, theme=""))
    made.wait_for_selector("[data-view=outliers] svg[data-y0]")
    made.wait_for_function(f"document.querySelectorAll('.view section').length === {len(views)}")
    yield made
    session.close()


@pytest.mark.parametrize("host", HOSTS)
def test_all_views_read_well_and_are_whole_without_jupyterlab(page, pictures, host) -> None:
    name, variables = HOSTS[host]
    page.evaluate("name => { document.body.className = name }", name)
    page.evaluate("own => { document.documentElement.style = own }", variables)
    page.screenshot(path=pictures / f"host-{host}.png", full_page=True)
    texts = page.evaluate(CONTRAST)
    assert len(texts) > 300
    assert [text for text in sorted(texts) if text[0] < 4.5] == []
    assert page.evaluate(CLIPPED) == []
