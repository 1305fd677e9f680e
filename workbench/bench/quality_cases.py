"""What the quality benchmark builds: families of recipes that differ in one thing."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

from workbench.quant import QuantArgs
from workbench.recipe import CalibrationSpec, QuantizationSpec, Recipe, Scheme
from workbench.tune import WIDTHS, Budget

GROUP = 128
SCHEMES: tuple[Scheme, ...] = ("o1", "o2", "o3")
ALPHAS = (None, 0.0, 0.25, 0.5, 0.6, 0.75, 0.9, 1.0)
ROUNDINGS = ("rtn", "mse", "hqq", "awq", "gptq")
ODD_BLOCKS = "*[13579].*"
UNWEIGHED = ("lm_head", "pooler*")  # a pooler has no part in embeddings: bits in it do nothing


@dataclass(frozen=True)
class Case:
    """One row of a family: its name, and the recipe that builds it.

    `within` names a case before it: what that one takes, in bytes as measured, is the budget of
    this one.
    """

    name: str
    recipe: Recipe
    within: str = ""

    def budgeted(self, taken: Mapping[str, int]) -> Self:
        """The case with its budget, once it is known what others have `taken`, by name."""
        if self.within not in taken:
            return self
        budget = Budget(kind="bytes", limit=taken[self.within])
        return replace(self, recipe=_with(self.recipe, budget=budget))


def activations(base: Recipe) -> Iterator[Case]:
    """int8 weights per channel, int8 activations as SmoothQuant's O1, O2 and O3."""
    for scheme in SCHEMES:
        recipe = base.with_scheme(scheme)
        yield Case(f"{scheme.upper()}, naive", recipe)
        yield Case(f"{scheme.upper()}, smoothed, alpha 0.5", recipe.with_alpha(0.5))


def alphas(base: Recipe) -> Iterator[Case]:
    """O3 at several alphas, and with those that the search finds."""
    for alpha in ALPHAS:
        yield Case("naive" if alpha is None else f"alpha {alpha:g}", base.with_alpha(alpha))
    document = base.model_dump() | {"smoothing": {"alpha": "auto"}}
    yield Case("searched", Recipe.model_validate(document))


def roundings(bits: int) -> Callable[[Recipe], Iterator[Case]]:
    """Weights of so many bits in groups, activations in float, by how they are rounded."""

    def cases(base: Recipe) -> Iterator[Case]:
        plain = base.with_scheme("none")
        plain = _with(plain, weights=_weights(bits))
        for name in ROUNDINGS:
            yield Case(name, plain.with_weights(algorithms=(name,)))
        both = plain.with_weights(algorithms=("awq", "gptq"))
        yield Case("awq, gptq", both)
        rotated = plain.model_copy(update={"rotation": True})
        yield Case("rotated, mse", rotated.with_weights(algorithms=("mse",)))
        yield Case("rotated, gptq", rotated.with_weights(algorithms=("gptq",)))

    return cases


def mixed(base: Recipe) -> Iterator[Case]:
    """One width for all layers, and allocated and tried within as many bytes, rounded to least
    error."""
    plain = _with(base.with_scheme("none"), exclude=UNWEIGHED)
    for rotation in (False, True):
        start = plain.model_copy(update={"rotation": rotation})
        prefix = "rotated, " if rotation else ""
        for bits in (3, 4, 5, 6):
            if bits in WIDTHS:
                same = _with(start, weights=_weights(bits))
            else:  # no such width: every other block has one more or one less
                same = _with(start, weights=_weights(bits - 1), bits={ODD_BLOCKS: bits + 1})
            uniform = Case(f"{prefix}{bits} bits, uniform", same)
            yield uniform
            budget = Budget(kind="mean_bits", limit=bits)
            best = _with(start, weights=_weights(4), bits="auto", budget=budget)
            yield Case(f"{prefix}{bits} bits, allocated", best, within=uniform.name)


families: dict[str, Callable[[Recipe], Iterator[Case]]] = {
    "w8a8": activations,
    "alpha": alphas,
    "int4": roundings(4),
    "int3": roundings(3),
    "mixed": mixed,
}


def base_recipe(model: str, calibration: int, seed: int) -> Recipe:
    """What all cases of a model share: its calibration data, no smoothing, O3 in int8."""
    return Recipe(
        model=model,
        calibration=CalibrationSpec(samples=calibration),
        smoothing=None,
        quantization=QuantizationSpec(),
        seed=seed,
    )


def _weights(bits: int) -> QuantArgs:
    return QuantArgs(dtype=f"int{bits}", granularity="group", group_size=GROUP, symmetric=False)


def _with(recipe: Recipe, **values: object) -> Recipe:
    quantization = recipe.quantization.model_copy(update=values)
    return recipe.model_copy(update={"quantization": quantization})
