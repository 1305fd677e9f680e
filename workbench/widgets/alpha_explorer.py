"""How far to smooth: the preview is arithmetic in the browser, the divergence is measured."""

from typing import TYPE_CHECKING, Any, ClassVar

import traitlets as t

from workbench.widgets._arrays import finite, group_names, packed
from workbench.widgets._base import View, checked

if TYPE_CHECKING:
    from workbench.session import Job

SWEEP: tuple[float | None, ...] = (None, 0.0, 0.25, 0.5, 0.75, 1.0)


class AlphaExplorer(View):
    """One slider for alpha, with what it does to activations and weights of one input."""

    module = "alpha_explorer"
    calls = ("measure",)
    verbs: ClassVar = ("sweep",)

    alpha = t.Float(0.5).tag(sync=True)
    """Share of the outliers moved into the weights, s = x^alpha / w^(1 - alpha).
    - Type: `float` from 0 to 1, default: the recipe's
    """
    smooth = t.Bool(True).tag(sync=True)
    """Whether the recipe smooths at all.
    - Type: `bool`, default: the recipe's
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

    def __init__(self, session: Any, **keywords: Any) -> None:
        super().__init__(session, **keywords)
        self.observe(self._regroup, "group")
        self.observe(self._edit, ["alpha", "smooth"])

    @t.validate("alpha")
    def _in_range(self, proposal: dict[str, Any]) -> float:
        with checked():
            self.session.recipe.with_alpha(proposal["value"])
        return float(proposal["value"])

    def measure(self) -> "Job":
        """Queue a sweep over `alphas`: each is quantized, calibrated and evaluated."""
        return self.submit("sweep", list(self.alphas))

    def refresh(self) -> None:
        """Show the recipe's alpha, the statistics, and the points measured for this recipe."""
        if self.recipe_is_new():
            smoothing = self.session.recipe.smoothing
            self.smooth = smoothing is not None
            if smoothing is not None and smoothing.alpha != "auto":
                self.alpha = smoothing.alpha
        self.groups = group_names(self.session)
        if self.group not in self.groups:
            self.group = self.groups[0] if self.groups else ""
        self._regroup()
        self._show_points()

    def _edit(self, _: Any) -> None:
        if not self.following:
            recipe = self.session.recipe
            self.session.update(recipe.with_alpha(self.alpha if self.smooth else None))

    def _regroup(self, _: Any = None) -> None:
        statistics = self.session.statistics
        entry = statistics.entries.get(self.group) if statistics else None
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
