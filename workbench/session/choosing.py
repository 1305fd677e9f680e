"""The verbs that choose numbers before anything is built: alphas and bits."""

from workbench.models import LoadedModel
from workbench.observe import Statistics
from workbench.recipe import Recipe, layer_bits, with_layer_bits
from workbench.recipe.bits import Bits
from workbench.recipe.code import activations_of
from workbench.session.bits import optimizer_of, sensitivity_of
from workbench.session.build import calibration_batches, smoothed
from workbench.session.choices import LayerChoices, layer_choices, restricted
from workbench.session.core import Core, verb
from workbench.session.local import LocalError, local_error
from workbench.smooth import AlphaSearch, search_alpha
from workbench.tune import Allocation, Budget, Sensitivity, allocate, front, refine

FRONT_POINTS = 9  # predicted allocations, from the fewest bytes to the most


class Choosing(Core):
    """Local errors, the search for alphas, sensitivities and allocations, kept while they hold."""

    def __init__(self, recipe: Recipe | str | None = None) -> None:
        super().__init__(recipe)
        self.loaded: LoadedModel | None = None
        self.statistics: Statistics | None = None
        self.damages: Sensitivity | None = None
        self.predicted: list[Allocation] = []
        self.search: AlphaSearch | None = None
        self.errors: dict[tuple[str, float | None], LocalError] = {}

    def load(self) -> LoadedModel:
        """Load the float model that the recipe names."""
        raise NotImplementedError

    def observe(self) -> Statistics:
        """Gather activation statistics on the calibration data."""
        raise NotImplementedError

    def choices(self) -> list[LayerChoices]:
        """What each linear of the model could become, by shapes alone; none before loading."""
        if self.loaded is None:
            return []
        return layer_choices(self.loaded.model, self._recipe.quantization.weights)

    def _invalidate(self, old: Recipe, new: Recipe) -> None:
        if new.model != old.model:
            self.loaded = None
        if seen(new) != seen(old):
            self.statistics = None
        if _damage_family(new) != _damage_family(old):
            self.damages, self.predicted = None, []
        if _search_family(new) != _search_family(old):
            self.search = None
        if _local_family(new) != _local_family(old):
            self.errors = {}

    @verb
    def error(self, group: str) -> LocalError:
        """Measure what rounding does to the layers of one input, on its sampled tokens."""
        recipe, statistics = self._recipe, self.observe()
        found = local_error(self.load().model, statistics, recipe, group)
        with self.lock:
            if _local_family(self._recipe) == _local_family(recipe):
                self.errors = {**self.errors, (group, found.alpha): found}
        self._notify()
        return found

    @verb
    def suggest(self) -> AlphaSearch:
        """Search an alpha for each input by measured errors; the recipe stays as it is."""
        recipe, statistics = self._recipe, self.observe()
        if self.search is not None:
            return self.search
        loaded = self.load()
        search = search_alpha(
            loaded.model,
            statistics,
            calibration_batches(loaded, recipe),
            weights=recipe.quantization.weights,
            activations=activations_of(recipe),
            exclude=recipe.quantization.exclude,
        )
        with self.lock:
            if _search_family(self._recipe) == _search_family(recipe):
                self.search = search
        self._notify()
        return search

    @verb
    def sensitivity(self) -> Sensitivity:
        """Predict what each width does to each layer, and the front of the best allocations.

        Layers that the recipe leaves in float are predicted too, but for a head.
        """
        recipe, statistics = self._recipe, self.observe()
        if self.damages is not None:
            return self.damages
        loaded = self.load()
        batches = calibration_batches(loaded, recipe)
        model, _ = smoothed(loaded, statistics, recipe, batches)
        usual = Recipe().quantization
        wide = recipe.with_quantization(
            bits={}, budget=None, include=usual.include, exclude=usual.exclude
        )
        damages = sensitivity_of(model, wide, batches)
        predicted = front(damages, _budgets(damages))
        with self.lock:
            if _damage_family(self._recipe) == _damage_family(recipe):
                self.damages, self.predicted = damages, predicted
        self._notify()
        return damages

    @verb
    def allocate(self, budget: Budget, trials: int = 0) -> Allocation:
        """Give each layer that is not left in float the bits of least damage within `budget`.

        As predicted, or with `trials` runs over the calibration data, as measured
        (`workbench.refine`).
        """
        recipe, damages = self._recipe, self.sensitivity()
        names = [choice.name for choice in self.choices()]
        if recipe.quantization.bits != "auto":
            bits = layer_bits(recipe, names)
            damages = restricted(damages, [name for name in names if bits[name] is not None])
        found = self._refined(damages, budget, trials) if trials else allocate(damages, budget)
        wanted: Bits = {name: args.qtype.bits for name, args in found.weights.items()}
        base = recipe
        if recipe.quantization.bits == "auto":
            base = recipe.with_quantization(bits={}, budget=None)
        self._replace(recipe, with_layer_bits(base, names, wanted))
        return found

    def _refined(self, damages: Sensitivity, budget: Budget, trials: int) -> Allocation:
        recipe, statistics = self._recipe, self.observe()
        loaded = self.load()
        batches = calibration_batches(loaded, recipe)
        model, _ = smoothed(loaded, statistics, recipe, batches)
        optimizer = optimizer_of(recipe)
        return refine(model, batches, damages, budget, optimizer=optimizer, trials=trials)


def _budgets(damages: Sensitivity) -> list[Budget]:
    """Bytes from the fewest that layers can have to the most, in equal steps."""
    sizes = [[damage.bytes for damage in layer.values()] for layer in damages.layers.values()]
    least, most = sum(map(min, sizes)), sum(map(max, sizes))
    steps = [least + (most - least) * i / (FRONT_POINTS - 1) for i in range(FRONT_POINTS)]
    return [Budget(kind="bytes", limit=step + 1) for step in steps]  # a byte, against rounding


# What results depend on; where these are equal for two recipes, so are the results.


def seen(recipe: Recipe) -> object:
    """What statistics depend on."""
    return recipe.model, recipe.calibration, recipe.seed


def _damage_family(recipe: Recipe) -> object:
    """All that decides on the smoothed float model, and on how weights are rounded.

    Which layers the recipe leaves in float changes a few scales of smoothing; so little is no
    reason to measure anew after each click.
    """
    quantization = recipe.quantization
    rounding = quantization.weights, quantization.optimizer
    return seen(recipe), recipe.rotation, recipe.smoothing, rounding


def _search_family(recipe: Recipe) -> object:
    quantization = recipe.quantization
    rounding = quantization.weights, quantization.activations, quantization.exclude
    return seen(recipe), rounding


def _local_family(recipe: Recipe) -> object:
    return seen(recipe), recipe.quantization
