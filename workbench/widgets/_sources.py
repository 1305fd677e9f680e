"""The tensors whose channels can be looked at: which there are, and what belongs to which layer."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from workbench.observe import Entry

if TYPE_CHECKING:
    from workbench.observe import Statistics, Stream

    Rows = Mapping[str, Entry | Stream]

# The name of each source, and how it is called on the page.
SOURCES = {
    "inputs": "Inputs of linear layers",
    "convolution": "Inputs of convolutions",
    "residual": "Residual stream",
    "keys": "Keys in the cache",
    "values": "Values in the cache",
    "weights": "Weights",
}
_of_layers: dict[str, Callable[["Statistics"], "Rows"]] = {
    "inputs": lambda statistics: statistics.entries,
    "weights": lambda statistics: statistics.entries,
}


def rows_of(statistics: "Statistics | None", source: str) -> "Rows":
    """What `source` holds, by name, in order of execution; empty before observation."""
    if statistics is None:
        return {}
    if source in _of_layers:
        return _of_layers[source](statistics)
    return {name: s for name, s in statistics.streams.items() if s.tap.kind == source}


def sources_of(statistics: "Statistics | None") -> list[dict[str, str]]:
    """The sources that hold anything, as `name` and `label`."""
    found = [name for name in SOURCES if rows_of(statistics, name)]
    return [{"name": name, "label": SOURCES[name]} for name in found or ["inputs"]]


def belongs(seen: "Entry | Stream", group: str) -> bool:
    """Whether the linear input `group` is this tensor, or lies in the same block."""
    if isinstance(seen, Entry):
        return seen.name == group
    return group.startswith(f"{seen.tap.module}.")


def group_in(statistics: "Statistics", seen: "Entry | Stream") -> str | None:
    """The first linear input that belongs to this tensor."""
    return next((name for name in statistics.entries if belongs(seen, name)), None)
