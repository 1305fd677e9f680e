"""One model in every variant worth setting side by side: float, and int8 smoothed or not."""

import copy
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from workbench.compare import (
    Comparison,
    Speed,
    bytes_on_disk,
    compare,
    machine,
    measure_all,
    parse_rate,
    versions,
)
from workbench.compare.layers import linears
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel, save
from workbench.models.atomic import write_text
from workbench.models.text import draw
from workbench.quant.dtypes import dtype_name
from workbench.recipe import Numbers, Recipe, Scheme
from workbench.session import Session
from workbench.session.build import evaluation_batches
from workbench.train import TrainingCurve

SCHEMES: tuple[Scheme, ...] = ("o3", "o1")  # unless the recipe quantizes weights only
RUNS = 7  # timings of each kind, for each variant and number of threads


class Variant(BaseModel):
    """What became of the model in one form. A language model has no cosines, an encoder only those.

    `prefill_ms`, `decode_ms` and `linear_ms` are medians with all threads; `speed` has the rest.
    `numbers` says of each layer how its integers were chosen, if by budget or algorithms.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    scheme: str
    smoothed: bool
    loss: float | None
    perplexity: float | None
    parse_rate: float | None
    agreement: float | None
    cosine: float | None
    cosine_min: float | None
    neighbour_agreement: float | None
    bytes: int
    prefill_ms: float
    decode_ms: float | None
    linear_ms: float
    speed: list[Speed]
    op: str
    op_reason: str
    checkpoint: str
    training: TrainingCurve | None = None
    numbers: dict[str, Numbers] = {}


class Study(BaseModel):
    """The variants of one recipe, and all that their figures depend on."""

    model_config = ConfigDict(frozen=True)
    model: str
    kind: str
    note: str
    variants: list[Variant]
    machine: dict[str, Any]
    recipe: dict[str, Any]
    versions: dict[str, str]
    seconds: float


class _Draft(BaseModel):
    """A variant before its speed is known, which is measured over all of them in turns."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    name: str
    scheme: str
    smoothed: bool
    model: nn.Module
    comparison: Comparison
    checkpoint: Path
    training: TrainingCurve | None = None
    numbers: dict[str, Numbers] = {}


def resolve(path: Path | None, model: str | None = None, alpha: float | None = None) -> Recipe:
    """The recipe in the file `path`, or the default one; `model` and `alpha` override it."""
    recipe = Recipe() if path is None else Recipe.load(path)
    if model is not None:
        recipe = recipe.with_model(model)
    return recipe if alpha is None else recipe.with_alpha(alpha)


def run(
    recipe: Recipe,
    out: Path,
    report: Path | None = None,
    *,
    prompts: int | None = None,
    runs: int = RUNS,
) -> Study:
    """Bring the recipe's model into every variant, measure each, and leave a checkpoint of each.

    The variants are fp32, bf16, and the recipe with each activation scheme, without smoothing and
    (if it asks for any) with. Checkpoints go to folders in `out`, named after their variant, and
    the study as JSON to the file `report`. `prompts` of the pinned ones are completed (None: all),
    and each time is the median of `runs`.

    Raises `WorkbenchError`, before any work is done, where `out` or `report` cannot be written, or
    there are fewer than 1 prompt or 2 runs.
    """
    started = time.perf_counter()
    if runs < 2 or (prompts is not None and prompts < 1):
        raise WorkbenchError(
            f"runs is {runs} and prompts {prompts}; give at least 2 runs and 1 prompt."
        )
    session = Session(recipe)
    try:
        session.load()
        loaded = session.loaded
        assert loaded is not None
        _check_writable(out, report)
        drafts = [*_floats(loaded, recipe, out), *_quantized(session, recipe, out)]
        parsed = _parse_rates(loaded, drafts, prompts, recipe.seed)
        speeds = _speeds(loaded, drafts, runs)
    finally:
        session.close()
    study = Study(
        model=recipe.model,
        kind=loaded.kind,
        note=loaded.note,
        variants=[_finish(draft, parsed[draft.name], speeds[draft.name]) for draft in drafts],
        machine=machine(),
        recipe=recipe.model_dump(mode="json"),
        versions=versions(),
        seconds=round(time.perf_counter() - started, 1),
    )
    if report is not None:
        write_text(report, study.model_dump_json(indent=2) + "\n")
    return study


def _check_writable(out: Path, report: Path | None) -> None:
    """Try both targets now: to learn it after minutes of work would be a pity."""
    if report is not None:
        if report.is_dir():
            raise WorkbenchError(f"{report} is a folder; --json wants the name of a file.")
        _try_folder(report.parent, f"{report} cannot be written", "--json")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbenchError(
            f"The output folder {out} cannot be made ({error.strerror}); name another with --out."
        ) from error
    _try_folder(out, f"The output folder {out} cannot be written", "--out")


def _try_folder(folder: Path, complaint: str, option: str) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WorkbenchError(
            f"{complaint} ({error.strerror}); name another with {option}."
        ) from error


def _floats(loaded: LoadedModel, recipe: Recipe, out: Path) -> Iterator[_Draft]:
    bf16 = copy.deepcopy(loaded.model).to(torch.bfloat16)
    found = compare(loaded.model, bf16, evaluation_batches(loaded, recipe))
    forms = {"fp32": (loaded.model, found.of_reference()), "bf16": (bf16, found)}
    for name, (model, comparison) in forms.items():
        yield _Draft(
            name=name,
            scheme=name,
            smoothed=False,
            model=model,
            comparison=comparison,
            checkpoint=save(model, out / name, tokenizer=loaded.tokenizer, note=loaded.note),
        )


def _quantized(session: Session, recipe: Recipe, out: Path) -> Iterator[_Draft]:
    schemes: tuple[Scheme, ...] = ("none",) if recipe.scheme == "none" else SCHEMES
    for scheme in schemes:
        for smoothed in (False, True) if recipe.smoothing else (False,):
            form = recipe.with_scheme(scheme)
            session.update(form if smoothed else form.with_alpha(None))
            session.compare()
            assert session.model is not None
            assert session.comparison is not None
            how = "smoothed" if smoothed else "naive"
            label = scheme.upper() if scheme != "none" else f"W{_bits(recipe)}"
            yield _Draft(
                name=f"{how} {label}",
                scheme=scheme,
                smoothed=smoothed,
                model=session.model,
                comparison=session.comparison,
                training=session.curve,
                numbers=session.numbers,
                checkpoint=session.save(out / f"{how}-{label.lower()}"),
            )


def _bits(recipe: Recipe) -> int:
    return recipe.quantization.weights.qtype.bits


def _parse_rates(
    loaded: LoadedModel, drafts: list[_Draft], count: int | None, seed: int
) -> dict[str, float | None]:
    if loaded.kind != "causal-lm":
        return {draft.name: None for draft in drafts}
    every = loaded.prompts()
    chosen = [every[index] for index in draw(len(every), count, seed)]
    return {draft.name: parse_rate(loaded, draft.model, chosen).rate for draft in drafts}


def _speeds(loaded: LoadedModel, drafts: list[_Draft], runs: int) -> dict[str, list[Speed]]:
    models = {draft.name: draft.model for draft in drafts}
    by_threads = [
        measure_all(models, loaded, threads, runs)
        for threads in sorted({1, torch.get_num_threads()})
    ]
    return {name: [speeds[name] for speeds in by_threads] for name in models}


def _finish(draft: _Draft, parsed: float | None, speed: list[Speed]) -> Variant:
    found, at_all = draft.comparison, speed[-1]
    op, reason = _ops(draft.model)
    return Variant(
        name=draft.name,
        scheme=draft.scheme,
        smoothed=draft.smoothed,
        loss=found.loss,
        perplexity=found.perplexity,
        parse_rate=parsed,
        agreement=found.agreement,
        cosine=found.cosine_mean,
        cosine_min=found.cosine_min,
        neighbour_agreement=found.neighbour_agreement,
        bytes=bytes_on_disk(draft.checkpoint),
        prefill_ms=at_all.prefill_ms.median,
        decode_ms=at_all.decode_ms.median if at_all.decode_ms else None,
        linear_ms=at_all.linear_ms.median,
        speed=speed,
        op=op,
        op_reason=reason,
        checkpoint=str(draft.checkpoint),
        training=draft.training,
        numbers=draft.numbers,
    )


def _ops(model: nn.Module) -> tuple[str, str]:
    """Name what ran in the quantized linears, and why; torch's own linear where there are none."""
    chosen = {
        str(module.op): str(module.op_reason)
        for module in linears(model).values()
        if hasattr(module, "op")
    }
    if not chosen:
        dtype = dtype_name(next(model.parameters()).dtype)
        return f"aten::linear, {dtype}", "the float model"
    return ", ".join(chosen), "; ".join(chosen.values())
