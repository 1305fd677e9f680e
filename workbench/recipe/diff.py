"""What differs between two recipes, field by field."""

import json
from dataclasses import dataclass
from typing import Any

from workbench.recipe.spec import Recipe


@dataclass(frozen=True)
class Change:
    """One field, as JSON writes its value before and after; "" where there was or is none."""

    field: str
    before: str
    after: str


def diff(before: Recipe, after: Recipe) -> list[Change]:
    """The fields whose values differ, in the order of the document."""
    old, new = (_leaves(recipe.model_dump(mode="json"), "") for recipe in (before, after))
    return [
        Change(field, old.get(field, ""), new.get(field, ""))
        for field in dict.fromkeys([*old, *new])
        if old.get(field) != new.get(field)
    ]


def _leaves(value: Any, path: str) -> dict[str, str]:
    """Every value that is no section, under its path of keys."""
    if not isinstance(value, dict) or not value:
        return {path: json.dumps(value)}
    found: dict[str, str] = {}
    for key, inner in value.items():
        found |= _leaves(inner, f"{path}.{key}" if path else key)
    return found
