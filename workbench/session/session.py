"""The session: it keeps the float model pristine and builds what a recipe asks for beside it."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from workbench.compare import Comparison, compare
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel, load, save
from workbench.models.loaded import share
from workbench.observe import Statistics, observe
from workbench.progress import Cancelled, track
from workbench.quant import freeze
from workbench.recipe import Numbers, Plan, Recipe
from workbench.session.build import Built, build, calibration_batches, evaluation_batches
from workbench.session.job import Job
from workbench.session.keys import content_digest, data_digest, result_key
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


class Session:
    """One model, one recipe, and the results so far.

    Each verb brings up the earlier stages that are missing, computes, and only then changes the
    session: an error or a cancel half-way leaves it where it was. `submit` runs a verb on the one
    worker thread.
    """

    def __init__(self, recipe: Recipe | str | None = None) -> None:
        self._recipe = Recipe(model=recipe) if isinstance(recipe, str) else recipe or Recipe()
        self.lock = threading.RLock()
        self.loaded: LoadedModel | None = None
        self.statistics: Statistics | None = None
        self.model: nn.Module | None = None
        self.smoothing: Smoothing | None = None
        self.numbers: dict[str, Numbers] = {}
        self.curve: TrainingCurve | None = None
        self.plan: Plan | None = None
        self.comparison: Comparison | None = None
        self.frozen = False
        self.jobs: list[Job] = []
        self.results: dict[str, Comparison] = {}
        self.points: list[SweepPoint] = []
        self._model_digest = ""
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="workbench")
        self._subscribers: list[Callable[[Session], None]] = []

    # What is known

    @property
    def recipe(self) -> Recipe:
        """The recipe in force; `update` replaces it."""
        return self._recipe

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
    def job(self) -> Job | None:
        """The newest job."""
        return self.jobs[-1] if self.jobs else None

    def code(self) -> str:
        """The recipe as a script."""
        return self._recipe.to_code()

    # Changing the recipe

    def update(self, recipe: Recipe) -> None:
        """Put `recipe` in force and drop only what it invalidates."""
        with self.lock:
            if recipe == self._recipe:
                return
            old, self._recipe = self._recipe, recipe
            if recipe.model != old.model:
                self.loaded, self.points = None, []
            if (recipe.model, recipe.calibration, recipe.seed) != (
                old.model,
                old.calibration,
                old.seed,
            ):
                self.statistics, self.points = None, []
            if _points_family(recipe) != _points_family(old):
                self.points = []
            self.model = self.smoothing = self.curve = self.plan = self.comparison = None
            self.frozen = False
        self._notify()

    # The verbs

    def load(self) -> LoadedModel:
        """Load the float model that the recipe names."""
        recipe = self._recipe
        if self.loaded is not None:
            return self.loaded
        loaded = load(recipe.model)
        digest = content_digest(loaded.model)
        self._commit(recipe, loaded=loaded, _model_digest=digest)
        return loaded

    def observe(self) -> Statistics:
        """Gather activation statistics on the calibration data."""
        recipe, loaded = self._recipe, self.load()
        if self.statistics is not None:
            return self.statistics
        statistics = observe(loaded.model, calibration_batches(loaded, recipe))
        self._commit(recipe, statistics=statistics)
        return statistics

    def calibrate(self) -> nn.Module:
        """Build the working model: smoothed, quantized, calibrated, trained, not frozen yet."""
        recipe, statistics = self._recipe, self.observe()
        if self.model is not None and not self.frozen:
            return self.model
        built = self._build(recipe, statistics)
        plan = Plan.resolve(recipe, built.model, built.smoothing, built.numbers)
        self._commit(recipe, **vars(built), plan=plan, frozen=False, comparison=None)
        return built.model

    def freeze(self) -> nn.Module:
        """Replace the float weights of the working model by integers."""
        recipe = self._recipe
        if self.model is not None and self.frozen:
            return self.model
        model = share(self.calibrate())
        freeze(model, op=recipe.quantization.op)
        plan = Plan.resolve(recipe, model, self.smoothing, self.numbers)
        self._commit(recipe, model=model, plan=plan, frozen=True, comparison=None)
        return model

    def compare(self) -> Comparison:
        """Compare the frozen model with the original on the evaluation text."""
        recipe, model = self._recipe, self.freeze()
        loaded = self.load()
        batches = evaluation_batches(loaded, recipe)
        key = result_key(recipe.digest(), self._model_digest, data_digest(batches))
        comparison = self.results.get(key) or compare(loaded.model, model, batches)
        self.results[key] = comparison
        self._commit(recipe, comparison=comparison)
        return comparison

    def save(self, folder: Path | str) -> Path:
        """Write the frozen model with its tokenizer, recipe and plan."""
        recipe, model, loaded = self._recipe, self.freeze(), self.load()
        assert self.plan is not None
        return save(
            model,
            folder,
            tokenizer=loaded.tokenizer,
            recipe=recipe.to_json(),
            plan=self.plan.to_json(),
            note=loaded.note,
        )

    def sweep(self, alphas: Iterable[float | None]) -> list[SweepPoint]:
        """Compare on held-out data at each alpha (None: not smoothed); the working model stays."""
        recipe, statistics = self._recipe, self.observe()
        loaded = self.load()
        tried = list(alphas)
        recipes = [recipe.with_alpha(alpha) for alpha in tried]
        batches = loaded.batches("evaluation", samples=SWEEP_SAMPLES, seed=recipe.seed)
        data = data_digest(batches)
        points = []
        for alpha, variant in zip(tried, track(recipes, "measuring alphas"), strict=True):
            key = result_key(variant.digest(), self._model_digest, data)
            comparison = self.results.get(key)
            if comparison is None:
                model = self._build(variant, statistics).model
                freeze(model, op=recipe.quantization.op)
                comparison = compare(loaded.model, model, batches)
                self.results[key] = comparison
            points.append(SweepPoint(alpha, comparison, key))
            self._keep_point(recipe, points[-1])
        return points

    # The worker

    def submit(self, verb: str, *arguments: Any) -> Job:
        """Queue a verb for the worker thread; return its job at once."""
        verbs = ("load", "observe", "calibrate", "freeze", "compare", "save", "sweep")
        if verb not in verbs:
            raise WorkbenchError(f"verb {verb!r} is unknown; allowed: {', '.join(verbs)}")
        method = getattr(self, verb)
        job = Job(verb, lambda: method(*arguments), self._notify)
        self.jobs.append(job)
        self._notify()
        self._worker.submit(job.run)
        return job

    def close(self) -> None:
        """Cancel what runs or waits and end the worker thread."""
        for job in self.jobs:
            if not job.ended:
                job.cancel()
        self._worker.shutdown(wait=True, cancel_futures=True)

    # Whoever watches

    def subscribe(self, callback: "Callable[[Session], None]") -> Callable[[], None]:
        """Call `callback(session)` after each change; return the function that ends this."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def _notify(self) -> None:
        for callback in tuple(self._subscribers):
            callback(self)

    def _commit(self, recipe: Recipe, **values: Any) -> None:
        """Put results in place, unless the recipe they belong to was replaced meanwhile."""
        with self.lock:
            if self._recipe is not recipe:
                raise Cancelled("the recipe changed while this ran; run it again")
            for name, value in values.items():
                setattr(self, name, value)
        self._notify()

    def _keep_point(self, recipe: Recipe, point: SweepPoint) -> None:
        with self.lock:
            if _points_family(self._recipe) == _points_family(recipe):
                others = [p for p in self.points if p.alpha != point.alpha]
                self.points = [*others, point]
        self._notify()

    def _build(self, recipe: Recipe, statistics: Statistics) -> Built:
        loaded = self.load()
        batches: list[dict[str, Tensor]] = calibration_batches(loaded, recipe)
        return build(loaded, statistics, recipe, batches)


def _points_family(recipe: Recipe) -> tuple[Recipe, dict[str, float | None]]:
    """What the points of a sweep have in common: the recipe without its one alpha."""
    overrides = recipe.smoothing.overrides if recipe.smoothing else {}
    return recipe.with_alpha(None), overrides
