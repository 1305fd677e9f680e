"""The session: it keeps the float model pristine and builds what a recipe asks for beside it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from workbench.compare import Comparison, compare, machine
from workbench.compare.speed import LayerTimes, measure_all, measure_layers
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel, load, save
from workbench.models.card import Origin, license_of
from workbench.models.load import HUB_ID
from workbench.models.loaded import share
from workbench.observe import Statistics, observe
from workbench.progress import track
from workbench.quant import freeze
from workbench.recipe import Numbers, Plan, Recipe
from workbench.session.build import Built, build, calibration_batches, evaluation_batches
from workbench.session.choosing import Choosing
from workbench.session.core import verb
from workbench.session.history import History, Run
from workbench.session.keys import content_digest, data_digest, result_key, setting
from workbench.session.pairing import CURRENT, FLOAT, Pair, measure_pair
from workbench.session.shelf import Ready, shelf
from workbench.smooth import Smoothing
from workbench.train import TrainingCurve

Stage = Literal["empty", "loaded", "observed", "calibrated", "frozen", "compared"]

# Enough evaluation sequences for a stable sweep, few enough that a point takes about a second.
SWEEP_SAMPLES = 24


@dataclass(frozen=True)
class SweepPoint:
    """What was measured, on held-out data, at one alpha (None: not smoothed)."""

    alpha: float | None
    comparison: Comparison
    key: str


@dataclass(frozen=True)
class Losses:
    """What training has reached so far: the loss of each step, and on held-out batches by step."""

    steps: tuple[float, ...]
    held_out: Mapping[int, float]


class Session(Choosing):
    """One model, one recipe, and the results so far.

    Each verb brings up the earlier stages that are missing, computes, and only then changes the
    session: an error or a cancel half-way leaves it where it was. `submit` runs a verb on the one
    worker thread. `history` keeps what was measured; by default the user's own.
    """

    def __init__(
        self, recipe: Recipe | str | None = None, *, history: History | None = None
    ) -> None:
        super().__init__(recipe)
        self.history = history or History.default()
        self.model: nn.Module | None = None
        self.smoothing: Smoothing | None = None
        self.numbers: dict[str, Numbers] = {}
        self.curve: TrainingCurve | None = None
        self.plan: Plan | None = None
        self.comparison: Comparison | None = None
        self.times: LayerTimes | None = None
        self.frozen = False
        self.saved: Recipe | None = None
        self.points: list[SweepPoint] = []
        self.losses: Losses | None = None
        self.pairs: dict[str, Pair] = {}
        self.others: dict[str, Session] = {}
        self.model_digest = ""

    # What is known

    @property
    def stage(self) -> Stage:
        """How far the model has come."""
        if self.comparison is not None:
            return "compared"
        if self.frozen:
            return "frozen"
        if self.model is not None:
            return "calibrated"
        if self.statistics is not None:
            return "observed"
        return "empty" if self.loaded is None else "loaded"

    @property
    def runs(self) -> list[Run]:
        """What was ever measured of this model on this machine with this code, oldest first."""
        return self.history.runs(self.model_digest, setting()) if self.loaded else []

    def code(self) -> str:
        """The recipe as a script."""
        return self._recipe.to_code()

    def _invalidate(self, old: Recipe, new: Recipe) -> None:
        super()._invalidate(old, new)
        if _points_family(new) != _points_family(old):
            self.points = []
        if new.model != old.model:
            self.pairs, self.others = {}, {}
        self.model = self.smoothing = self.curve = self.plan = self.comparison = None
        self.losses = self.times = None
        self.frozen = False

    # The verbs

    @verb
    def load(self) -> LoadedModel:
        """Load the float model that the recipe names."""
        recipe = self._recipe
        if self.loaded is not None:
            return self.loaded
        ready = shelf.get(recipe.model)
        loaded = ready.loaded if ready else load(recipe.model)
        digest = ready.digest if ready else content_digest(loaded.model)
        self._commit(recipe, loaded=loaded, model_digest=digest)
        return loaded

    @verb
    def observe(self) -> Statistics:
        """Gather activation statistics on the calibration data."""
        recipe, loaded = self._recipe, self.load()
        if self.statistics is not None:
            return self.statistics
        ready = shelf.get(recipe.model)
        if ready and ready.observed_as(recipe):
            statistics = ready.statistics
        else:
            statistics = observe(loaded.model, calibration_batches(loaded, recipe))
        self._commit(recipe, statistics=statistics)
        return statistics

    def shelve(self) -> None:
        """Load and observe, and let every later session of this process start from it."""
        loaded, statistics = self.load(), self.observe()
        shelf[self._recipe.model] = Ready(self._recipe, loaded, self.model_digest, statistics)

    @verb
    def calibrate(self) -> nn.Module:
        """Build the working model: smoothed, quantized, calibrated, trained, not frozen yet."""
        recipe, statistics = self._recipe, self.observe()
        if self.model is not None and not self.frozen:
            return self.model
        built = self._build(recipe, statistics)
        plan = Plan.resolve(recipe, built.model, built.smoothing, built.numbers)
        self._commit(recipe, **vars(built), plan=plan, frozen=False, comparison=None)
        return built.model

    @verb
    def freeze(self) -> nn.Module:
        """Replace the float weights of the working model by integers."""
        recipe = self._recipe
        if self.model is not None and self.frozen:
            return self.model
        model = share(self.calibrate())
        freeze(model, op=recipe.quantization.op, slower=recipe.quantization.slower)
        plan = Plan.resolve(recipe, model, self.smoothing, self.numbers)
        self._commit(recipe, model=model, plan=plan, frozen=True, comparison=None)
        return model

    @verb
    def compare(self) -> Comparison:
        """Compare the frozen model with the original on the evaluation text."""
        recipe, model = self._recipe, self.freeze()
        loaded = self.load()
        batches = evaluation_batches(loaded, recipe)
        key, data = self._key(recipe, batches)
        run = self.history.get(key)
        if run is None:
            assert self.plan is not None
            found = compare(loaded.model, model, batches)
            run = self._keep(key, data, recipe, self.plan, found)
        self._commit(recipe, comparison=run.comparison)
        return run.comparison

    @verb
    def pair(self, a: str = FLOAT, b: str = CURRENT) -> Pair:
        """Measure two sides against each other: "float", "current", or the digest of a recipe."""
        found = measure_pair(self, a, b)
        self._notify()
        return found

    @verb
    def profile(self) -> LayerTimes:
        """Time every layer of the frozen model on this machine."""
        recipe, model = self._recipe, self.freeze()
        times = measure_layers(model, self.load())
        self._commit(recipe, times=times)
        return times

    @verb
    def save(self, folder: Path | str) -> Path:
        """Write the frozen model with its tokenizer, recipe and plan."""
        recipe, model, loaded = self._recipe, self.freeze(), self.load()
        assert self.plan is not None
        written = save(
            model,
            folder,
            tokenizer=loaded.reader,
            recipe=recipe.to_json(),
            plan=self.plan.to_json(),
            note=loaded.note,
            origin=self._origin(loaded),
        )
        self.saved = recipe
        return written

    @verb
    def sweep(self, alphas: Iterable[float | None]) -> list[SweepPoint]:
        """Compare on held-out data at each alpha (None: not smoothed); the working model stays."""
        recipe, statistics = self._recipe, self.observe()
        loaded = self.load()
        tried = list(alphas)
        recipes = [recipe.with_alpha(alpha) for alpha in tried]
        batches = evaluation_batches(loaded, recipe, SWEEP_SAMPLES)
        points = []
        for alpha, variant in zip(tried, track(recipes, "measuring alphas"), strict=True):
            key, data = self._key(variant, batches)
            run = self.history.get(key)
            if run is None:
                built = self._build(variant, statistics)
                chosen = recipe.quantization
                freeze(built.model, op=chosen.op, slower=chosen.slower)
                plan = Plan.resolve(variant, built.model, built.smoothing)
                found = compare(loaded.model, built.model, batches)
                run = self._keep(key, data, variant, plan, found)
            points.append(SweepPoint(alpha, run.comparison, key))
            self._keep_point(recipe, points[-1])
        return points

    @verb
    def train(self) -> TrainingCurve:
        """Build the working model with the training that the recipe asks for."""
        if self._recipe.training is None:
            raise WorkbenchError("the recipe has no training section: add one first")
        self.calibrate()
        assert self.curve is not None
        return self.curve

    @verb
    def time(self) -> Run:
        """Measure the speed of the frozen model against the float one, in turns; keep it."""
        recipe = self._recipe
        self.compare()
        model, loaded = self.freeze(), self.load()
        key, _ = self._key(recipe, evaluation_batches(loaded, recipe))
        run = self.history.get(key)
        assert run is not None
        if run.prefill_ms is None:
            speed = measure_all({"float": loaded.model, "quantized": model}, loaded)
            run = run.model_copy(
                update={
                    "prefill_ms": speed["quantized"].prefill_ms.median,
                    "float_prefill_ms": speed["float"].prefill_ms.median,
                }
            )
            self.history.add(run)
        self._notify()
        return run

    def _origin(self, loaded: LoadedModel) -> Origin:
        """What the card of a checkpoint may say: the comparison only if there is one."""
        base, found = self._recipe.model, self.comparison
        figures = {} if found is None else found.model_dump(exclude={"layers"}, exclude_none=True)
        on_hub = HUB_ID.fullmatch(base) is not None and not Path(base).is_dir()
        return Origin(
            base=loaded.name,
            hub_id=base if on_hub else None,
            license=license_of(loaded.folder),
            figures=figures,
            on=f"the pinned evaluation text, seed {self._recipe.seed}, {machine()['processor']}",
        )

    def _keep_point(self, recipe: Recipe, point: SweepPoint) -> None:
        with self.lock:
            if _points_family(self._recipe) == _points_family(recipe):
                others = [p for p in self.points if p.alpha != point.alpha]
                self.points = [*others, point]
        self._notify()

    def _build(self, recipe: Recipe, statistics: Statistics) -> Built:
        loaded = self.load()
        batches: list[dict[str, Tensor]] = calibration_batches(loaded, recipe)
        return build(loaded, statistics, recipe, batches, self._watch)

    def _watch(self, losses: Sequence[float], held_out: Mapping[int, float]) -> None:
        self.losses = Losses(tuple(losses), dict(held_out))

    def _key(self, recipe: Recipe, batches: list[dict[str, Tensor]]) -> tuple[str, str]:
        """The key of a measurement, and the digest of its data."""
        data = data_digest(batches)
        return result_key(recipe.digest(), self.model_digest, data), data

    def _keep(self, key: str, data: str, recipe: Recipe, plan: Plan, comparison: Comparison) -> Run:
        """Put a measurement into the history."""
        whole = self.load().bytes
        run = Run(
            key=key,
            content=self.model_digest,
            data=data,
            setting=setting(),
            recipe=recipe,
            comparison=comparison,
            bytes=whole - sum(layer.float_bytes - layer.bytes for layer in plan.layers),
            float_bytes=whole,
        )
        self.history.add(run)
        return run


def _points_family(recipe: Recipe) -> object:
    """The recipe without its one alpha."""
    overrides = recipe.smoothing.overrides if recipe.smoothing else {}
    return recipe.with_alpha(None), overrides
