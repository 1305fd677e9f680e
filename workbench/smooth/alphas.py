"""Which alpha each input gets."""

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from workbench.errors import WorkbenchError
from workbench.observe import Entry


def check_alpha(alpha: float) -> float:
    """Return `alpha` if it is a number in 0..1; raise WorkbenchError otherwise."""
    if not isinstance(alpha, int | float) or math.isnan(alpha) or not 0 <= alpha <= 1:
        raise WorkbenchError(
            f"alpha is {alpha!r}; it must be a number from 0 (all difficulty stays in the "
            "activations) to 1 (all of it moves into the weights)"
        )
    return float(alpha)


def alphas_of(
    entries: Iterable[Entry], alpha: float | None, overrides: Mapping[str, float | None]
) -> dict[str, float | None]:
    """The alpha of each entry, by name; None leaves it alone.

    An override's key is the exact name of a group or layer, or a shell-style pattern. Raises
    WorkbenchError where an override matches nothing, or two want different alphas for one input.
    """
    common = None if alpha is None else check_alpha(alpha)
    checked = {p: None if a is None else check_alpha(a) for p, a in overrides.items()}
    unused = dict(checked)
    chosen: dict[str, float | None] = {}
    for entry in entries:
        matching = [p for p in checked if matches(entry.name, entry.group.readers, p)]
        for pattern in matching:
            unused.pop(pattern, None)
        if len({checked[p] for p in matching}) > 1:
            found = " and ".join(f"{p!r} ({checked[p]})" for p in matching)
            raise WorkbenchError(
                f"the alpha overrides {found} all match {entry.name}, whose layers share one "
                "input and so one alpha: keep one of them or narrow the patterns"
            )
        chosen[entry.name] = checked[matching[0]] if matching else common
    if unused:
        raise WorkbenchError(
            f"the alpha override {next(iter(unused))!r} matches no input; a key is the name of a "
            f"layer or group, such as {next(iter(chosen), 'none')!r}, or a pattern like '*.mlp.*'"
        )
    return chosen


def matches(name: str, readers: Iterable[str], pattern: str) -> bool:
    """Whether `pattern` names or matches an input by its name or that of a layer that reads it."""
    # Names of groups hold brackets, which a pattern would read as a choice of letters.
    return any(n == pattern or fnmatchcase(n, pattern) for n in (name, *readers))
