"""Bits layer by layer: what a recipe gives each, and the same recipe with others for some."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from typing import Any

from workbench.errors import WorkbenchError
from workbench.recipe.spec import QuantizationSpec, Recipe

Bits = dict[str, int | None]


def layer_bits(recipe: Recipe, names: Sequence[str]) -> Bits:
    """The bits of each of the layers `names`; None for one that stays in float.

    Raises WorkbenchError for bits that are still to be found ("auto").
    """
    quantization = recipe.quantization
    if quantization.bits == "auto":
        raise WorkbenchError(
            'the bits of this recipe are "auto": allocate them first, or set them for "*"'
        )
    found: Bits = {}
    for name in names:
        included = quantization.include is None or _any(name, quantization.include)
        if not included or _any(name, quantization.exclude):
            found[name] = None
        else:
            given = (bits for p, bits in quantization.bits.items() if fnmatch(name, p))
            found[name] = next(given, quantization.weights.qtype.bits)
    return found


def with_layer_bits(recipe: Recipe, names: Sequence[str], wanted: Bits) -> Recipe:
    """The same recipe with the bits `wanted` for the layers that each pattern in it matches.

    `names` are all layers there are; None leaves layers in float. Patterns are kept where they say
    it, and layers named one by one where they do not. Raises WorkbenchError where a pattern matches
    no layer.
    """
    for pattern, bits in wanted.items():
        recipe = _with_pattern(recipe, names, pattern, bits)
    return recipe


def _with_pattern(recipe: Recipe, names: Sequence[str], pattern: str, bits: int | None) -> Recipe:
    chosen = [name for name in names if fnmatch(name, pattern)]
    if not chosen:
        raise WorkbenchError(
            f"the pattern {pattern!r} matches none of the {len(names)} layers, such as "
            f"{next(iter(names), 'none')!r}; `*` stands for any letters, as in '*.mlp.*'"
        )
    if len(chosen) == len(names):
        goal: Bits = dict.fromkeys(names, bits)
    else:
        goal = layer_bits(recipe, names) | dict.fromkeys(chosen, bits)
    made = recipe
    for values in _spellings(recipe.quantization, names, pattern, bits, goal):
        made = recipe.with_quantization(budget=None, **values)
        if layer_bits(made, names) == goal:
            break
    return made


def _spellings(
    old: QuantizationSpec, names: Sequence[str], pattern: str, bits: int | None, goal: Bits
) -> Iterator[dict[str, Any]]:
    """Ways to say it, shortest first; the last one, layer by layer, always holds."""
    floats = [name for name, b in goal.items() if b is None]
    chosen = [name for name in names if fnmatch(name, pattern)]
    given = {} if old.bits == "auto" else old.bits
    kept = {p: b for p, b in given.items() if not fnmatch(p, pattern)}
    others = [p for p in old.exclude if not _hits(p, chosen)]
    again = [name for name in floats if _any(name, old.exclude) and not _any(name, others)]
    include = old.include
    if include is not None and bits is not None:
        include = (*include, *(name for name in chosen if not _any(name, include)))
    foreign = [p for p in old.exclude if not _hits(p, names)]
    each = {n: b for n, b in goal.items() if b is not None and b != old.weights.qtype.bits}
    if bits is None:
        ways: list[tuple[dict[str, int], list[str]]] = [(kept, [*others, pattern])]
    else:
        ways = [(kept, [*others, *again]), ({pattern: bits, **kept}, [*others, *again])]
    for patterns, exclude in (*ways, (each, [*foreign, *floats])):
        quantized = [name for name in names if not _any(name, exclude)]
        yield {
            "bits": {p: b for p, b in patterns.items() if _hits(p, quantized)},
            "exclude": tuple(exclude),
            "include": include,
        }


def _any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _hits(pattern: str, names: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for name in names)
