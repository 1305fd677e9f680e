"""The recipe: one declarative document that says what each verb shall do."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from workbench.errors import WorkbenchError
from workbench.ops import implementations
from workbench.quant import QuantArgs, Slower
from workbench.recipe.code import recipe_code
from workbench.recipe.compression import CompressionSpec
from workbench.tune import WIDTHS, Budget, algorithms

VERSION = 1

Alpha = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
# Told apart first, so that a bad number gets one complaint and not one for each kind.
AlphaOrAuto = Annotated[
    Annotated[Alpha, Tag("number")] | Annotated[Literal["auto"], Tag("word")],
    Discriminator(lambda value: "word" if value == "auto" else "number"),
]
Scheme = Literal["o1", "o2", "o3", "none"]

# SmoothQuant's names for how activations are quantized (arXiv:2211.10438, table 2).
SCHEMES: dict[Scheme, QuantArgs | None] = {
    "o1": QuantArgs(granularity="token", dynamic=True),
    "o2": QuantArgs(granularity="tensor", dynamic=True),
    "o3": QuantArgs(granularity="tensor"),
    "none": None,
}


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CalibrationSpec(_Spec):
    """The data of statistics and static ranges.

    `text` is a UTF-8 file to use instead of ours, and `text_sha256` the only content it may have;
    `dataset` a data set of the hub or in a local folder, with its `subset` and the `column` of its
    training rows; `images` a folder of pictures, for a model that looks at them. The names are
    those of `LoadedModel.batches`.
    """

    samples: int = Field(default=32, ge=1)
    length: int = Field(default=256, ge=2)
    batch_size: int = Field(default=8, ge=1)
    observer: Literal["max", "momentum", "percentile", "mse", "entropy"] = "max"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    text: str | None = None
    text_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    dataset: str | None = None
    subset: str | None = None
    column: str = "text"
    images: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        named = [n for n in ("text", "dataset", "images") if getattr(self, n) is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} exclude each other: set one of them to null")
        if self.text_sha256 is not None and self.text is None:
            raise ValueError("text_sha256 is of a text, and there is none: set both")
        if self.dataset is None and (self.subset is not None or self.column != "text"):
            raise ValueError("subset and column are of a dataset, and there is none: set it")
        return self

    @property
    def source(self) -> dict[str, str]:
        """What calibrates, as arguments of `LoadedModel.batches`; empty for our text."""
        chosen = {"text": self.text, "text_sha256": self.text_sha256, "images": self.images}
        if self.dataset is not None:
            chosen = {"dataset": self.dataset, "subset": self.subset, "column": self.column}
        return {name: value for name, value in chosen.items() if value is not None}


class SmoothingSpec(_Spec):
    """SmoothQuant's alpha for all inputs, and for those that a pattern in `overrides` matches.

    "auto" searches one for each input on the calibration data; an override of None leaves its
    inputs as they are.
    """

    alpha: AlphaOrAuto = 0.5
    overrides: dict[str, Alpha | None] = {}


class QuantizationSpec(_Spec):
    """How weights and activations (None: not) are quantized, and in which layers.

    `optimizer` finds the scales of weights; None leaves the choice to `workbench.quantize`, as
    `include` None leaves the layers. `bits` are those of layers whose name a pattern matches (the
    first does), or "auto": the best for each layer within `budget`, found by prediction and
    `trials` runs over the calibration data (`workbench.refine`). `algorithms` choose the integers
    on calibration data, for each pattern one after the other (`workbench.tune`). `op` pins the
    implementation that computes frozen layers, where it can, instead of the fastest. `slower`
    "float" leaves layers in float that would be slower quantized on this machine.
    """

    weights: QuantArgs = QuantArgs()
    activations: QuantArgs | None = SCHEMES["o3"]
    optimizer: Literal["absmax", "max", "mse", "hqq"] | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ("lm_head",)
    bits: Literal["auto"] | dict[str, int] = {}
    budget: Budget | None = None
    trials: int = Field(default=64, ge=0)
    algorithms: dict[str, tuple[str, ...]] = {}
    op: str | None = None
    slower: Slower = "keep"

    @field_validator("op")
    @classmethod
    def _known_op(cls, value: str | None) -> str | None:
        names = [one.name for one in implementations]
        if value is not None and value not in names:
            raise ValueError(f"op {value!r} is unknown; allowed: {', '.join(names)}")
        return value

    @field_validator("algorithms")
    @classmethod
    def _known(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        unknown = next((a for chain in value.values() for a in chain if a not in algorithms), None)
        if unknown is not None:
            raise ValueError(
                f"algorithm {unknown!r} is unknown; allowed: {', '.join(sorted(algorithms))}"
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.bits == "auto") != (self.budget is not None):
            raise ValueError('a budget goes with bits="auto", and with nothing else: set both')
        if self.bits and self.weights.qtype.is_float:
            raise ValueError(f"bits are of integers, and weights are {self.weights.dtype}")
        wrong = [b for b in ({} if self.bits == "auto" else self.bits).values() if b not in WIDTHS]
        if wrong:
            allowed = ", ".join(map(str, WIDTHS))
            raise ValueError(f"{wrong[0]} bits are no width of integers; allowed: {allowed}")
        if self.budget is not None and self.budget.kind == "latency":
            raise ValueError(
                "a recipe has no times of layers: use a budget of bytes or mean_bits, or "
                "`workbench.allocate` with latencies"
            )
        return self


class TrainingSpec(_Spec):
    """Quantization-aware training on the calibration data, after calibration.

    The loss is the divergence from the float model, or with `distil` false the model's own. The
    last `held_out` batches are not trained on and judge which step's weights are kept; with 0 it
    is the last one's.
    """

    steps: int = Field(default=100, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0, allow_inf_nan=False)
    distil: bool = True
    held_out: int = Field(default=0, ge=0)


class Recipe(_Spec):
    """Model, calibration, smoothing, quantization, training: all that a session needs.

    `smoothing`, `training` and `compression` are None for none, and the last is a path of its own
    (`workbench.compress`); `rotation` turns the residual stream of the float model first
    (`workbench.rotate`).
    """

    version: int = VERSION
    model: str = "pylm-outliers"
    calibration: CalibrationSpec = CalibrationSpec()
    rotation: bool = False
    smoothing: SmoothingSpec | None = SmoothingSpec()
    quantization: QuantizationSpec = QuantizationSpec()
    training: TrainingSpec | None = None
    compression: CompressionSpec | None = None
    seed: int = Field(default=0, ge=0)

    @field_validator("version")
    @classmethod
    def _readable(cls, value: int) -> int:
        if value != VERSION:
            raise ValueError(
                f"recipe version {value} cannot be read; allowed: {VERSION} "
                "(a newer one needs a newer quantization-workbench)"
            )
        return value

    @model_validator(mode="after")
    def _one_cure(self) -> Self:
        if self.rotation and self.smoothing is not None:
            raise ValueError(
                "rotation spreads outliers over all channels and leaves smoothing nothing to do: "
                "set smoothing to null, or rotation to false"
            )
        return self

    @property
    def scheme(self) -> Scheme:
        """SmoothQuant's name of the activation scheme, "none" where only weights are quantized."""
        args = self.quantization.activations
        if args is None:
            return "none"
        if not args.dynamic:
            return "o3"
        return "o1" if args.granularity == "token" else "o2"

    def with_scheme(self, scheme: Scheme) -> Self:
        """The same recipe with activations quantized per token or tensor as they come ("o1",
        "o2"), per tensor by a calibrated range ("o3") or not at all ("none")."""
        if scheme not in SCHEMES:
            raise WorkbenchError(f"scheme {scheme!r} is unknown; allowed: {', '.join(SCHEMES)}")
        args = SCHEMES[scheme]
        return self._with("quantization", {"activations": args.model_dump() if args else None})

    def with_alpha(self, alpha: float | None) -> Self:
        """The same recipe smoothed with `alpha`, or not at all with None."""
        if alpha is None:
            return self._checked(self.model_dump() | {"smoothing": None})
        kept = self.smoothing.overrides if self.smoothing else {}
        return self._checked(self.model_dump() | {"smoothing": {"alpha": alpha, "overrides": kept}})

    def with_weights(
        self, *, bits: int | None = None, algorithms: tuple[str, ...] | None = None
    ) -> Self:
        """The same recipe with weights of so many bits, and rounded by these `algorithms`, in all
        layers; None leaves either as it is."""
        values: dict[str, Any] = {}
        if bits is not None:
            args = self.quantization.weights.model_dump() | {"dtype": f"int{bits}"}
            values |= {"weights": args, "bits": {}, "budget": None}
        if algorithms is not None:
            values["algorithms"] = {"*": algorithms} if algorithms else {}
        return self._with("quantization", values)

    def with_quantization(self, **values: Any) -> Self:
        """The same recipe with some fields of `quantization` replaced."""
        return self._with("quantization", values)

    def with_training(self, **values: Any) -> Self:
        """The same recipe with a training section, some of its fields replaced."""
        section = self.training.model_dump() if self.training else {}
        return self._checked(self.model_dump() | {"training": section | values})

    def without_training(self) -> Self:
        """The same recipe without a training section."""
        return self._checked(self.model_dump() | {"training": None})

    def with_alphas(self, alpha: float | str, overrides: Mapping[str, float | None]) -> Self:
        """The same recipe smoothed with `alpha` (or "auto"), but where `overrides` says."""
        section = {"alpha": alpha, "overrides": dict(overrides)}
        return self._checked(self.model_dump() | {"smoothing": section})

    def with_calibration(self, **values: Any) -> Self:
        """The same recipe with some fields of `calibration` replaced."""
        return self._with("calibration", values)

    def with_model(self, name: str) -> Self:
        """The same recipe for another model."""
        return self._checked(self.model_dump() | {"model": name})

    def _with(self, section: str, values: dict[str, Any]) -> Self:
        document = self.model_dump()
        return self._checked(document | {section: document[section] | values})

    @classmethod
    def _checked(cls, document: Any) -> Self:
        """Validate `document`; every complaint becomes part of one sentence."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise WorkbenchError(f"the recipe is not valid: {_explain(error)}") from error

    def to_json(self) -> str:
        """The document as JSON text."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a document; raises WorkbenchError naming each unknown field or bad value."""
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise WorkbenchError(f"the recipe is not JSON: {error}") from error
        return cls._checked(document)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a recipe file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WorkbenchError(f"the recipe {path} cannot be read: {error}") from error
        return cls.from_json(text)

    def save(self, path: Path | str) -> None:
        """Write a recipe file."""
        try:
            Path(path).write_text(self.to_json(), encoding="utf-8")
        except OSError as error:
            raise WorkbenchError(f"the recipe cannot be written to {path}: {error}") from error

    def digest(self) -> str:
        """A hash that equal recipes share, and that fields not yet thought of will not change."""
        said = self.model_dump(mode="json", exclude_defaults=True) | {"version": self.version}
        canonical = json.dumps(said, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_code(self) -> str:
        """A script of the eight verbs that does what this recipe says, with no widget imported."""
        return recipe_code(self)


def _explain(error: ValidationError) -> str:
    """One clause for each complaint: where, what was found, what is wrong with it."""
    clauses = []
    for complaint in error.errors():
        where = ".".join(str(p) for p in complaint["loc"] if p not in ("number", "word"))
        where = where or "document"
        message = complaint["msg"].removeprefix("Value error, ")
        if complaint["type"] == "extra_forbidden":
            clauses.append(f"unknown field {where!r}")
        elif isinstance(complaint["input"], dict):  # what is wrong concerns several fields
            clauses.append(f"{where}: {message}")
        else:
            clauses.append(f"{where} is {complaint['input']!r}: {message}")
    return "; ".join(clauses)
