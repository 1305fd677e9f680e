"""A recipe in a few words."""

from workbench.recipe.spec import Recipe


def summary(recipe: Recipe) -> str:
    """What tells a recipe from others at a glance, such as "W8A8 O3 alpha 0.5".

    Bits of weights and of activations, the scheme, alpha where it was smoothed, the algorithms that
    chose integers, and training.
    """
    spec = recipe.quantization
    mixed = {} if spec.bits == "auto" else spec.bits
    widths = sorted({spec.weights.qtype.bits, *mixed.values()})
    head = "W auto" if spec.bits == "auto" else "W" + "/".join(map(str, widths))
    if spec.activations is not None:
        head += f"A{spec.activations.qtype.bits}"
    parts = [head]
    parts += dict.fromkeys(
        args.dtype for args in (spec.weights, spec.activations) if args and args.qtype.is_float
    )
    if spec.activations is not None:
        parts.append(recipe.scheme.upper())
    if recipe.smoothing is not None:
        parts.append(f"alpha {recipe.smoothing.alpha}")
    chosen = dict.fromkeys(name for chain in spec.algorithms.values() for name in chain)
    parts += ["+".join(chosen)] if chosen else []
    parts += [f"{recipe.training.steps} steps of training"] if recipe.training else []
    return " ".join(parts)
