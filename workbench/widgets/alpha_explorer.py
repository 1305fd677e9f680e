"""How far to smooth: the preview is arithmetic in the browser, what it costs is measured."""

from typing import TYPE_CHECKING, Any, ClassVar

import traitlets as t

from workbench.errors import WorkbenchError
from workbench.recipe import with_group_alpha, without_group_alpha
from workbench.widgets._arrays import finite, group_names, packed, readers, same
from workbench.widgets._base import View, checked

if TYPE_CHECKING:
    from workbench.recipe import Recipe
    from workbench.session import Job
    from workbench.smooth import AlphaSearch

SWEEP: tuple[float | None, ...] = (None, 0.0, 0.25, 0.5, 0.75, 1.0)


class AlphaExplorer(View):
    """One slider for alpha, with what it does to activations and weights of one input."""

    module = "alpha_explorer"
    calls = ("measure", "suggest", "use")
    verbs: ClassVar = ("sweep", "suggest", "error")

    alpha = t.Float(0.5).tag(sync=True)
    """Share of the outliers moved into the weights, s = x^alpha / w^(1 - alpha): of all inputs or,
    with `only`, of `group`.
    - Type: `float` from 0 to 1, default: the recipe's
    """
    smooth = t.Bool(True).tag(sync=True)
    """Whether the recipe smooths all inputs or, with `only`, `group`.
    - Type: `bool`, default: the recipe's
    """
    only = t.Bool(False).tag(sync=True)
    """Whether `group` has an alpha of its own.
    - Type: `bool`, default: the recipe's
    """
    own = t.Dict().tag(sync=True)
    """The inputs with an alpha of their own, None for one that is not smoothed."""
    automatic = t.Bool(False).tag(sync=True)
    """Whether the recipe leaves alpha to a search when it is built ("auto")."""
    on_release = t.Bool(True).tag(sync=True)
    """Whether a new alpha is measured at once in the layers that read `group`.
    - Type: `bool`, default: `True`
    """
    group = t.Unicode("").tag(sync=True)
    """The input whose channels are previewed, a key of `session.statistics.entries`.
    - Type: `str`, default: the first one
    """
    groups = t.List(t.Unicode()).tag(sync=True)
    """All observed inputs in execution order."""
    absmax = t.Bytes().tag(sync=True)
    """Activation absmax per channel of `group`, float32."""
    weight_absmax = t.Bytes().tag(sync=True)
    """Weight absmax per channel over the layers that read `group`, float32."""
    alphas = t.List(  # type: ignore[misc]
        trait=t.Float(min=0.0, max=1.0, allow_none=True), default_value=list(SWEEP)
    ).tag(sync=True)
    """What `measure` tries; None stands for no smoothing.
    - Type: list of `float | None`, default: `[None, 0, .25, .5, .75, 1]`
    """
    points = t.List(t.Dict()).tag(sync=True)
    """What was measured and holds for the recipe as it is: dictionaries of `alpha`, `divergence`
    from the float model, and `perplexity` (None for an encoder).
    """
    quantity = t.Unicode("").tag(sync=True)
    """What `divergence` is: `"KL (nats a token)"`, or `"1 - cosine"` for an encoder.
    - Type: `str`, default: `""`, as long as nothing was measured
    """
    errors = t.List(t.Dict()).tag(sync=True)
    """What was measured in the layers that read `group`: dictionaries of `alpha`, `sqnr_db` of
    their outputs and `tokens`.
    """
    suggestion = t.Dict().tag(sync=True)
    """The sweep behind a suggestion, for `group`: `alphas`, the relative squared errors `linear`
    (of its layers) and `block` (of the block around them), `chosen`, `single` (the best alpha for
    all alike), `candidates` (damage to the whole model) and `used`; empty before.
    """

    def __init__(self, session: Any, **keywords: Any) -> None:
        self._sent: tuple[object, ...] | None = None
        self._moved = False
        super().__init__(session, **keywords)
        self.observe(self._move, "group")
        self.observe(self._edit, ["alpha", "smooth"])
        self.observe(self._narrow, "only")

    @t.validate("alpha")
    def _in_range(self, proposal: dict[str, Any]) -> float:
        with checked():
            self.session.recipe.with_alpha(proposal["value"])
        return float(proposal["value"])

    @t.validate("only")
    def _can_narrow(self, proposal: dict[str, Any]) -> bool:
        with checked():
            if proposal["value"] and not (self.following or self._moved):
                with_group_alpha(self.session.recipe, readers(self.session), self.group, self.alpha)
        return bool(proposal["value"])

    def measure(self) -> "Job":
        """Queue a sweep over `alphas`: each is quantized, calibrated and evaluated."""
        return self.submit("sweep", list(self.alphas))

    def suggest(self) -> "Job":
        """Queue the search for an alpha of each input."""
        return self.submit("suggest")

    def use(self) -> None:
        """Put the suggested alphas into the recipe, those of single inputs as overrides."""
        search = self.session.search
        if search is None:
            raise WorkbenchError("nothing is suggested yet for this recipe; press Suggest first.")
        self.session.update(self._suggested())

    def refresh(self) -> None:
        """Show the recipe's alpha, the statistics, and the points measured for this recipe."""
        session = self.session
        self.groups = group_names(session)
        if self.group not in self.groups:
            self.group = self.groups[0] if self.groups else ""
        if self.recipe_is_new():
            self._show_alpha()
        self._regroup()
        self._show_points()

    def _show_alpha(self) -> None:
        """Show what the recipe says of `group`."""
        spec = self.session.recipe.smoothing
        self.own = dict(spec.overrides) if spec else {}
        self.only = bool(spec) and self.group in self.own
        self.automatic = spec is not None and spec.alpha == "auto"
        value = None if spec is None else self.own[self.group] if self.only else spec.alpha
        self.smooth = value is not None
        if value is not None and value != "auto":
            self.alpha = float(value)

    def _edit(self, _: Any) -> None:
        if self.following or self._moved:
            return
        recipe, alpha = self.session.recipe, self.alpha if self.smooth else None
        if self.only:
            recipe = with_group_alpha(recipe, readers(self.session), self.group, alpha)
        else:
            recipe = recipe.with_alpha(alpha)
        self.session.update(recipe)
        self._measure_here()

    def _narrow(self, _: Any) -> None:
        if self.following or self._moved:
            return
        recipe, inputs = self.session.recipe, readers(self.session)
        alpha = self.alpha if self.smooth else None
        if self.only:
            self.session.update(with_group_alpha(recipe, inputs, self.group, alpha))
        elif recipe.smoothing is not None:
            self.session.update(without_group_alpha(recipe, inputs, self.group))

    def _measure_here(self) -> None:
        """Queue the error of this input's layers, unless it is queued and will see this alpha."""
        waiting = any(j.verb == "error" and j.state == "queued" for j in list(self.session.jobs))
        if self.on_release and self.session.statistics is not None and not waiting:
            self.submit("error", self.group)

    def _move(self, _: Any) -> None:
        """Show another input; that its alpha differs is no edit."""
        self._moved = True
        try:
            self._show_alpha()
            self._regroup()
            self._show_points()
        finally:
            self._moved = False

    def _regroup(self) -> None:
        statistics = self.session.statistics
        entry = statistics.entries.get(self.group) if statistics else None
        if not same(self._sent, (entry,)):
            self._sent = (entry,)
            with self.hold_sync():
                self.weight_absmax = packed(entry.weight_absmax) if entry else b""
                self.absmax = packed(entry.absmax) if entry else b""

    def _show_points(self) -> None:
        points = sorted(self.session.points, key=lambda p: -1.0 if p.alpha is None else p.alpha)
        if points:
            causal = points[0].comparison.perplexity is not None
            self.quantity = "KL (nats a token)" if causal else "1 - cosine"
        self.points = [
            {
                "alpha": point.alpha,
                "divergence": finite(point.comparison.divergence),
                "perplexity": finite(point.comparison.perplexity),
            }
            for point in points
        ]
        found = [error for (group, _), error in self.session.errors.items() if group == self.group]
        self.errors = [
            {"alpha": e.alpha, "sqnr_db": finite(e.sqnr_db), "tokens": e.tokens}
            for e in sorted(found, key=lambda e: -1.0 if e.alpha is None else e.alpha)
        ]
        self._show_suggestion()

    def _show_suggestion(self) -> None:
        search = self.session.search
        if search is None or self.group not in search.names:
            self.suggestion = {}
            return
        row = search.names.index(self.group)
        used = self._suggested() == self.session.recipe
        self.suggestion = {
            "alphas": list(search.alphas),
            "linear": [finite(value) for value in search.linear_error[row].tolist()],
            "block": [finite(value) for value in search.block_error[row].tolist()],
            "chosen": search.chosen[self.group],
            "single": _single(search),
            "candidates": {name: finite(value) for name, value in search.candidates.items()},
            "used": used,
        }

    def _suggested(self) -> "Recipe":
        """The recipe with what the search chose."""
        search = self.session.search
        assert search is not None
        common = _single(search)
        own = {name: alpha for name, alpha in search.chosen.items() if alpha != common}
        return self.session.recipe.with_alphas(common, own)


def _single(search: "AlphaSearch") -> float:
    """The best alpha for all inputs alike."""
    return min(search.alphas, key=lambda alpha: search.candidates[f"{alpha:g}"])
