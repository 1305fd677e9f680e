"""The browser half of each widget: one plain ES module, put together without a bundler."""

from functools import cache
from importlib.resources import files

STATIC = files(__package__) / "static"


@cache
def module(name: str) -> str:
    """Give the ES module of view `name`: the shared helpers, the charts, then its own `render`."""
    return "\n".join(
        (STATIC / f"{part}.js").read_text(encoding="utf-8") for part in ("shared", "chart", name)
    )


@cache
def stylesheet() -> str:
    """Give the one style sheet that all views share; it follows the theme's `--jp-*` variables."""
    return (STATIC / "style.css").read_text(encoding="utf-8")
