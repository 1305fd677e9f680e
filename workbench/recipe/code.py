"""A recipe as a script."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.quant import QuantArgs
    from workbench.recipe.spec import Recipe


EVALUATION_SAMPLES = 64  # sequences or pictures to compare models on; of sentences, all are taken
BY_SENTENCE = ("encoder", "classifier")


def recipe_code(recipe: "Recipe") -> str:
    """Print the eight verbs with the arguments of `recipe`."""
    calibration, quantization = recipe.calibration, recipe.quantization
    data = [
        f"samples={calibration.samples}",
        f"length={calibration.length}",
        f"batch_size={calibration.batch_size}",
        f"seed={recipe.seed}",
    ]
    data += [f"{name}={value!r}" for name, value in calibration.source.items()]
    judged = ["samples=samples", f"seed={recipe.seed}"]
    judged += [f"images={calibration.images!r}"] if calibration.images else []
    exclude = list(quantization.exclude)
    activations = activations_of(recipe)
    lines = [
        "import torch",
        "",
        "import workbench as wb",
        "",
        f"lm = wb.load({recipe.model!r})",
        f'batches = lm.batches("calibration", {", ".join(data)})',
        "model = lm.copy()  # shares storage with lm.model until a verb changes it",
    ]
    if recipe.rotation:
        lines.append("rotation = wb.rotate(model, batches[0])")
    lines += smoothing_code(recipe, exclude)
    lines += bits_code(recipe)
    lines += [
        "wb.quantize_mixed(" if quantization.bits else "wb.quantize(",
        "    model,",
        *(["    bits,"] if quantization.bits else []),
        f"    weights={args_code(quantization.weights)},",
        f"    activations={args_code(activations)},",
        f"    optimizer={optimizer_code(quantization.optimizer)},",
        f"    include={None if quantization.include is None else list(quantization.include)!r},",
        f"    exclude={exclude!r},",
        ")",
    ]
    if quantization.algorithms:
        chains = {pattern: list(chain) for pattern, chain in quantization.algorithms.items()}
        lines.append(f"tuned = wb.tune(model, batches, {chains!r})")
    if activations is not None and not activations.dynamic:
        lines += [
            f"with torch.no_grad(), wb.Calibration(model, momentum={calibration.momentum}):",
            "    for batch in batches:",
            "        model(**batch)",
        ]
    if recipe.training is not None:
        lines += [
            "curve = wb.finetune(",
            "    model,",
            "    batches,",
            f"    steps={recipe.training.steps},",
            f"    learning_rate={recipe.training.learning_rate!r},",
            f"    teacher={'lm.model' if recipe.training.distil else None},",
            f"    seed={recipe.seed},",
            *([f"    held_out={recipe.training.held_out},"] if recipe.training.held_out else []),
            ")",
        ]
    chosen = quantization.model_dump(include={"op", "slower"}, exclude_defaults=True)
    lines += [
        f"wb.freeze({', '.join(['model', *(f'{k}={v!r}' for k, v in chosen.items())])})",
        f"samples = None if lm.kind in {BY_SENTENCE!r} else {EVALUATION_SAMPLES}",
        f'evaluation = lm.batches("evaluation", {", ".join(judged)})',
        "report = wb.compare(lm.model, model, evaluation)",
        "print(report)",
        'wb.save(model, "out", tokenizer=lm.reader)',
    ]
    return "\n".join(lines) + "\n"


def smoothing_code(recipe: "Recipe", exclude: list[str]) -> list[str]:
    """The lines that observe, search for alphas where they are to be found, and smooth."""
    spec = recipe.smoothing
    if spec is None:
        return []
    lines = ["stats = wb.observe(model, batches)"]
    alpha, overrides = repr(spec.alpha), repr(spec.overrides)
    if spec.alpha == "auto":
        lines += [
            "search = wb.search_alpha(",
            "    model,",
            "    stats,",
            "    batches,",
            f"    weights={args_code(recipe.quantization.weights)},",
            f"    activations={args_code(activations_of(recipe))},",
            f"    exclude={exclude!r},",
            ")",
        ]
        alpha, overrides = "None", f"search.with_overrides({overrides})"
    given = f", overrides={overrides}" if overrides != "{}" else ""
    return [
        *lines,
        f"smoothing = wb.smooth(model, stats, alpha={alpha}{given}, exclude={exclude!r})",
    ]


def bits_code(recipe: "Recipe") -> list[str]:
    """The lines that find the bits of each layer, none where all have the same."""
    quantization = recipe.quantization
    if quantization.budget is None:
        return [f"bits = {quantization.bits!r}"] if quantization.bits else []
    include = None if quantization.include is None else list(quantization.include)
    budget = f"kind={quantization.budget.kind!r}, limit={quantization.budget.limit!r}"
    return [
        "found = wb.sensitivity(",
        "    model,",
        "    batches,",
        f"    wb.widths({args_code(quantization.weights)}),",
        f"    optimizer={optimizer_code(quantization.optimizer)},",
        f"    include={include!r},",
        f"    exclude={list(quantization.exclude)!r},",
        f"    seed={recipe.seed},",
        ")",
        f"budget = wb.Budget({budget})",
        "bits = wb.refine(",
        "    model,",
        "    batches,",
        "    found,",
        "    budget,",
        f"    optimizer={optimizer_code(quantization.optimizer)},",
        f"    trials={quantization.trials},",
        ").weights",
    ]


def activations_of(recipe: "Recipe") -> "QuantArgs | None":
    """The activation arguments with the observer that the calibration section names."""
    chosen = recipe.quantization.activations
    if chosen is None:
        return None
    return chosen.model_copy(update={"observer": recipe.calibration.observer})


def optimizer_code(name: str | None) -> str:
    """The constructor call of the optimizer `name`."""
    return "None" if name is None else f"wb.{name.capitalize()}Optimizer()"


def args_code(args: "QuantArgs | None") -> str:
    """The constructor call that makes `args`, defaults left out."""
    if args is None:
        return "None"
    fields = [f"{name}={value!r}" for name, value in args.model_dump(exclude_defaults=True).items()]
    return f"wb.QuantArgs({', '.join(fields)})"
