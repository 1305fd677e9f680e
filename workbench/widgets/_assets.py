"""The browser half of each widget: one plain ES module, put together without a bundler."""

from functools import cache
from importlib.resources import files

STATIC = files(__package__) / "static"
COMMON = ("shared", "hearing", "chart")
EXPORT = "export default { render: hearing(render) };\n"
OWN = {
    "outlier_view": ("heatmap", "surface"),
    "comparison_view": ("sides",),
}  # parts that one view alone is made of


@cache
def module(name: str) -> str:
    """Give the ES module of view `name`: what all share, its own parts, then its `render`."""
    return source(name) + EXPORT


def source(name: str) -> str:
    """The same before anything of it is exported."""
    parts = (*COMMON, *OWN.get(name, ()), name)
    return "\n".join((STATIC / f"{part}.js").read_text(encoding="utf-8") for part in parts)


@cache
def stylesheet() -> str:
    """Give the one style sheet that all views share; it follows the theme's `--jp-*` variables."""
    return (STATIC / "style.css").read_text(encoding="utf-8")
