"""What quantizing costs in quality: real models in many variants, judged on held-out data."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from workbench.bench.quality_cases import Case, base_recipe, families
from workbench.compare import Comparison, compare, machine, versions
from workbench.compare.quality import exponential
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel, load
from workbench.models.atomic import write_text
from workbench.models.remembered import Remembered
from workbench.observe import Statistics, observe
from workbench.progress import track
from workbench.quant import QModule, freeze
from workbench.session.build import build, calibration_batches
from workbench.session.keys import content_digest, data_digest, result_key

MODELS = ("pylm-outliers", "pylm", "minilm")
SEQUENCES = 4  # in each batch of held-out data: what the spread is taken over


class Estimate(BaseModel):
    """A mean over held-out batches and its standard error."""

    model_config = ConfigDict(frozen=True)
    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float], weights: Sequence[float]) -> Self:
        """The mean of `values`, weighted, and the error of it as their spread tells."""
        total = sum(weights)
        mean = sum(v * w for v, w in zip(values, weights, strict=True)) / total
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(mean=mean, error=spread / math.sqrt(len(values)))


class QualityRow(BaseModel):
    """One variant of one model. `refused` says why it could not be built; then it has no figures.

    `divergence` is the KL divergence from the float model in nats a token, or 1 - cosine of the
    embeddings of an encoder; `loss_added` nats a token over the float model, on the same tokens.
    `bits` is the mean over the quantized weights, without scales; `bytes` what they take, with
    scales, where they are saved.
    """

    model_config = ConfigDict(frozen=True)
    key: str
    model: str
    family: str
    case: str
    divergence: Estimate | None = None
    loss_added: Estimate | None = None
    perplexity: float | None = None
    perplexity_float: float | None = None
    samples: int = 0
    tokens: int | None = None
    bits: float | None = None
    bytes: int | None = None
    seconds: float = 0.0
    refused: str = ""


class QualityReport(BaseModel):
    """Every row, and what they were measured with."""

    rows: list[QualityRow] = []
    calibration: int
    seed: int
    machine: dict[str, Any] = Field(default_factory=machine)
    versions: dict[str, str] = Field(default_factory=versions)

    def save(self, path: Path) -> None:
        """Write everything to `path` as JSON, whole or not at all."""
        write_text(path, self.model_dump_json(indent=1) + "\n")


def measure_quality(
    models: Iterable[str] = MODELS,
    names: Iterable[str] = (),
    *,
    samples: int | None = 64,
    calibration: int = 32,
    seed: int = 0,
    path: Path | None = None,
) -> QualityReport:
    """Build every case of the families `names` (default: all) of each model; judge it.

    `samples` sequences of 256 tokens, or sentences, of the held-out text (None: all) judge what was
    chosen on `calibration` others; `seed` draws both. With a `path` the report is written after
    every row, and what it already holds, for the same model content, recipe, data, versions and
    machine, is not measured again. Raises WorkbenchError for unknown names and unreadable files.
    """
    wanted = list(names) or list(families)
    unknown = [name for name in wanted if name not in families]
    if unknown:
        raise WorkbenchError(f"no family {unknown[0]!r}; allowed: {', '.join(families)}")
    known = {} if path is None else _known(path)
    report = QualityReport(calibration=calibration, seed=seed)
    for model in models:
        subject = _Subject(load(model), samples, seed)
        base = base_recipe(model, calibration, seed)
        cases = [(family, case) for family in wanted for case in families[family](base)]
        taken: dict[str, int] = {}
        for family, given in track(cases, f"quality of {model}"):
            case = given.budgeted(taken)
            row = known.get(subject.key(family, case)) or subject.row(family, case)
            report.rows.append(row)
            if row.bytes is not None:
                taken[row.case] = row.bytes
            if path is not None:
                report.save(path)
    return report


def _known(path: Path) -> dict[str, QualityRow]:
    """The rows that a file holds, by key."""
    if not path.exists():
        return {}
    try:
        rows = QualityReport.model_validate_json(path.read_text(encoding="utf-8")).rows
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise WorkbenchError(
            f"{path} cannot be read as figures of quality: {reason}; name another file"
        ) from error
    return {row.key: row for row in rows}


class _Subject:
    """A float model and the held-out batches that judge what comes of it."""

    def __init__(self, loaded: LoadedModel, samples: int | None, seed: int) -> None:
        self.loaded = loaded
        self.held_out = loaded.batches(
            "evaluation", samples=samples, batch_size=SEQUENCES, seed=seed
        )
        self.digests = content_digest(loaded.model), data_digest(self.held_out)
        self.reference = Remembered(loaded.model, self.held_out)
        self._observed: tuple[str, Statistics] | None = None

    def key(self, family: str, case: Case) -> str:
        """What a row holds for."""
        return f"{result_key(case.recipe.digest(), *self.digests)} {family} {case.name}"

    def row(self, family: str, case: Case) -> QualityRow:
        """Build and judge one case."""
        start = time.perf_counter()
        named: dict[str, Any] = {"key": self.key(family, case), "model": self.loaded.name}
        named |= {"family": family, "case": case.name}
        try:
            model = self._build(case)
        except WorkbenchError as error:
            return QualityRow(**named, refused=str(error))
        seconds = round(time.perf_counter() - start, 1)
        return QualityRow(**named, **_judged(self.reference, model, self.held_out), seconds=seconds)

    def _build(self, case: Case) -> nn.Module:
        batches = calibration_batches(self.loaded, case.recipe)
        digest = data_digest(batches)
        if self._observed is None or self._observed[0] != digest:
            self._observed = digest, observe(self.loaded.model, batches)
        model = build(self.loaded, self._observed[1], case.recipe, batches).model
        freeze(model)
        return model


def _judged(
    reference: nn.Module, model: nn.Module, batches: Sequence[dict[str, Tensor]]
) -> dict[str, Any]:
    """The figures of a row: each batch compared on its own, so that their spread is known."""
    found = [compare(reference, model, [b]) for b in track(batches, "judging")]
    quantized = [m for m in model.modules() if isinstance(m, QModule)]
    weights = [(m.weights, m.weight.numel()) for m in quantized if m.weights is not None]
    saved = [t for m in quantized for n, t in m.state_dict().items() if n not in m._parameters]
    figures: dict[str, Any] = {
        "samples": sum(len(batch["input_ids"]) for batch in batches),
        "bits": sum(a.qtype.bits * n for a, n in weights) / sum(n for _, n in weights),
        "bytes": sum(tensor.nbytes for tensor in saved),
    }
    if found[0].kl is None:
        sizes = [float(one.sentences or 0) for one in found]
        return figures | {"divergence": _estimate(found, sizes, lambda one: one.divergence)}
    sizes = [float(one.tokens or 0) for one in found]
    loss = _estimate(found, sizes, lambda one: one.loss_reference or 0.0).mean
    added = _estimate(found, sizes, lambda one: (one.loss or 0.0) - (one.loss_reference or 0.0))
    return figures | {
        "divergence": _estimate(found, sizes, lambda one: one.divergence),
        "loss_added": added,
        "perplexity": exponential(loss + added.mean),
        "perplexity_float": exponential(loss),
        "tokens": int(sum(sizes)),
    }


def _estimate(
    found: Sequence[Comparison], weights: Sequence[float], value: Callable[[Comparison], float]
) -> Estimate:
    return Estimate.of([value(one) for one in found], weights)
