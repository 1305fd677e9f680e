"""A view on a page of its own: its ES module, its state and a stand-in for the kernel's half."""

import base64
import json
from typing import Any

from workbench.widgets._assets import source, stylesheet
from workbench.widgets._base import View

# JupyterLab's own variables, as its two themes set them.
THEMES = {
    "light": {
        "ui-font-color1": "rgba(0,0,0,.87)", "ui-font-color2": "rgba(0,0,0,.54)",
        "layout-color0": "white", "layout-color1": "white", "layout-color2": "#eee",
        "border-color1": "#bdbdbd", "border-color2": "#e0e0e0", "brand-color1": "#1976d2",
        "warn-color1": "#f57c00", "success-color1": "#388e3c", "error-color1": "#d32f2f",
        "content-link-color": "#1976d2",
    },
    "dark": {
        "ui-font-color1": "white", "ui-font-color2": "rgba(255,255,255,.7)",
        "layout-color0": "#111", "layout-color1": "#212121", "layout-color2": "#424242",
        "border-color1": "#616161", "border-color2": "#424242", "brand-color1": "#2196f3",
        "warn-color1": "#ff9800", "success-color1": "#4caf50", "error-color1": "#f44336",
        "content-link-color": "#64b5f6",
    },
    "": {},
}  # fmt: skip

SCRIPT = """
const decoded = (text) => {
  const found = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new DataView(found.buffer);
};
const state = JSON.parse(document.getElementById('state').textContent,
  (_, value) => (value && value.__bytes__ !== undefined ? decoded(value.__bytes__) : value));
const heard = {};
window.sent = [];
window.model = {
  get: (name) => state[name],
  set(name, value) {
    const many = typeof name === 'string' ? { [name]: value } : name;
    for (const [key, one] of Object.entries(many)) {
      state[key] = one;
      (heard[`change:${key}`] ?? []).forEach((hear) => hear());
    }
  },
  on: (name, hear) => (heard[name] ??= []).push(hear),
  off() {}, save_changes() {},
  send: (content) => window.sent.push(content),
};
"""


def state_of(view: View) -> dict[str, Any]:
    """What the kernel would send of `view`, and a saved notebook would hold."""
    own = {name: value for name, value in view.get_state().items() if not name.startswith("_")}
    own.pop("layout", None)
    return {
        name: {"__bytes__": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in own.items()
    }


def html(*views: View, theme: str = "light") -> str:
    """The page; the model of the last view is `window.model`; without a theme no JupyterLab is."""
    variables = "".join(f"--jp-{name}: {value};" for name, value in THEMES[theme].items())
    parts = [
        "<!doctype html><meta charset=utf-8>",
        f"<style>body {{ {variables} margin: 8px; background: var(--jp-layout-color1); }}",
        f"{stylesheet()}</style>",
        f"<body data-jp-theme-light={str(theme == 'light').lower()}>" if theme else "<body>",
    ]
    for view in views:
        state = json.dumps(state_of(view), default=str).replace("<", "\\u003c")
        script = source(view.module).replace("</", "<\\/")
        parts += [
            f"<script type=application/json id=state>{state}</script><div class=view></div>",
            f"<script type=module>{SCRIPT}{{ {script}",
            "const el = [...document.querySelectorAll('.view')].at(-1);",
            "render({ model: window.model, el }); }",
            "document.getElementById('state').remove();</script>",
        ]
    return "\n".join(parts)
