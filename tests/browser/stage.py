"""A view alone on a page, its traits given by the test: the browser half without any kernel."""

import base64
from typing import Any

from workbench.widgets._assets import module, stylesheet

# What an anywidget is handed: traits that can be read, set and watched, and a way to the kernel.
MODEL = """async ([code, traits, css]) => {
    const view = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
    const read = (value) => (value?.base64 === undefined ? value : view(value.base64));
    const state = Object.fromEntries(Object.entries(traits).map(([k, v]) => [k, read(v)]));
    const watchers = {};
    window.sent = [];
    window.model = {
        get: (name) => state[name],
        set: (name, value) => {
            const all = typeof name === 'object' ? name : {[name]: value};
            for (const [key, one] of Object.entries(all)) {
                state[key] = one;
                for (const told of watchers[`change:${key}`] ?? []) told();
            }
        },
        on: (event, told) => (watchers[event] ??= []).push(told),
        save_changes: () => {},
        send: (message) => window.sent.push(message),
    };
    document.head.append(Object.assign(document.createElement('style'), {textContent: css}));
    const address = URL.createObjectURL(new Blob([code], {type: 'text/javascript'}));
    const root = document.body.appendChild(document.createElement('div'));
    (await import(address)).default.render({model: window.model, el: root});
    await new Promise((done) => setTimeout(done, 50));
}"""

# One event after another, each shown before the next.
EVENTS = """async ([selector, values]) => {
    const node = document.querySelector(selector);
    for (const value of values) {
        if (value === null) node.click();
        else { node.value = value; node.dispatchEvent(new Event('input', {bubbles: true})); }
        await new Promise((shown) => requestAnimationFrame(() => setTimeout(shown, 0)));
    }
}"""


def show(page, view: str, traits: dict[str, Any]) -> None:
    """Draw `view` with these traits; what is left out is what a fresh view has."""
    usual = {"error": "", "job": {}, "note": ""}
    sent = {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in (usual | traits).items()
    }
    page.goto("about:blank")
    page.evaluate(MODEL, [module(view), sent, stylesheet()])


def repaint_ms(page, selector: str, values: list) -> float:
    """Milliseconds of the page's own thread for one event and the frame that shows it, in the mean.

    Processor time: what else the machine does in the meantime is not in it.
    """
    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = tools.send("Performance.getMetrics")["metrics"]
        return next(m["value"] for m in metrics if m["name"] == "TaskDuration")

    before = spent()
    page.evaluate(EVENTS, [selector, values])
    taken = 1e3 * (spent() - before) / len(values)
    tools.detach()
    return taken
