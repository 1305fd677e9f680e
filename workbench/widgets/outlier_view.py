"""Where outliers are in the model, which channels they are, and which tokens make them."""

from typing import TYPE_CHECKING, Any, ClassVar

import torch
import traitlets as t

from workbench.observe import Entry
from workbench.smooth.alphas import alphas_of
from workbench.smooth.fold import entry_scales
from workbench.widgets._arrays import group_names, heat_row, histogram, packed, packed_heat
from workbench.widgets._base import Refused, View
from workbench.widgets._sources import SOURCES, belongs, group_in, rows_of, sources_of
from workbench.widgets._surface import in_words, surface

if TYPE_CHECKING:
    from workbench.observe import Stream
    from workbench.session import Job


WAYS = {"fold": "folded into the weights", "slot": "applied at run time"}


class OutlierView(View):
    """Three linked views of one set of tensors: a heatmap, the sorted channels, a surface."""

    module = "outlier_view"
    calls = ("gather",)
    verbs: ClassVar = ("load", "observe")

    view = t.Enum(("where", "which", "why"), "which").tag(sync=True)
    """`"where"` shows the heatmap of layers by channels, `"which"` the channels of one row of it,
    largest first, `"why"` its tokens by channels, before and after smoothing.
    - Type: `str`, default: `"which"`
    """
    source = t.Unicode("inputs").tag(sync=True)
    """Whose channels are shown.
    - Type: `str`, one of `inputs convolution residual keys values weights`, as far as the model
      has them, default: `"inputs"`
    """
    sources = t.List(t.Dict()).tag(sync=True)
    """What may be chosen as `source`: dictionaries of `name` and `label`."""
    rows = t.List(t.Unicode()).tag(sync=True)
    """The tensors of `source` in order of execution; the rows of the heatmap."""
    row = t.Unicode("").tag(sync=True)
    """The one of `rows` that `"which"` and `"why"` show. Choosing it chooses `group`.
    - Type: `str`, default: the one that belongs to `group`
    """
    group = t.Unicode("").tag(sync=True)
    """The chosen input (a key of `session.statistics.entries`), shared by all views.
    - Type: `str`, default: the first one
    """
    groups = t.List(t.Unicode()).tag(sync=True)
    """All observed inputs of linear layers in execution order."""
    top = t.Int(6, min=0, max=20).tag(sync=True)
    """How many channels are labelled with their number.
    - Type: `int`, default: `6`
    """
    log = t.Bool(True).tag(sync=True)
    """Whether `"which"` has a logarithmic axis of magnitudes.
    - Type: `bool`, default: `True`
    """
    surface_log = t.Bool(False).tag(sync=True)
    """Whether the height of `"why"` is logarithmic.
    - Type: `bool`, default: `False`
    """
    absmax = t.Bytes().tag(sync=True)
    """Largest magnitude of each channel of `row`, float32."""
    weight_absmax = t.Bytes().tag(sync=True)
    """Largest weight that multiplies each channel, float32; empty where none does."""
    scales = t.Bytes().tag(sync=True)
    """What smoothing divides each channel by, float32; empty where it leaves the row alone."""
    smoothed = t.Unicode("").tag(sync=True)
    """Where `scales` are from, in words; or why there are none."""
    heat = t.Bytes().tag(sync=True)
    """Rows of log10(absmax / median of the row), 0 where below, one after another, max-pooled to
    512: uint16, of which 65535 is `heat_top`.
    """
    heat_top = t.Float(0.0).tag(sync=True)
    """The largest value of the heatmap."""
    heat_columns = t.List(t.Int()).tag(sync=True)
    """Columns of each heatmap row."""
    heat_channels = t.List(t.Int()).tag(sync=True)
    """Channels of each heatmap row before pooling."""
    peaks = t.List(t.Dict()).tag(sync=True)
    """The tokens that made the loudest channels so loud: `channel`, `value`, `position` in its
    sequence, and the text `before`, `token` and `after`.
    """
    surface = t.Bytes().tag(sync=True)
    """Magnitudes float32 [tokens, channels] before smoothing, at most 64 x 128."""
    surface_tokens = t.List(t.Dict()).tag(sync=True)
    """The tokens of `surface`: `position`, `before`, `token`, `after`."""
    surface_channels = t.List(t.Int()).tag(sync=True)
    """The channels of `surface`, in order."""
    histograms = t.List(t.Dict()).tag(sync=True)
    """For weights: `layer`, `low`, `high` and the `counts` of equal bins between them."""

    def __init__(self, session: Any, **keywords: Any) -> None:
        super().__init__(session, **keywords)
        self.observe(lambda _: self._choose_row(), "group")
        self.observe(lambda _: self._choose_group(), "row")
        self.observe(lambda _: self._show(), "source")

    @t.validate("source")
    def _is_source(self, proposal: dict[str, Any]) -> str:
        source: str = proposal["value"]
        if source not in SOURCES:
            raise Refused(f"no source {source!r}; choose one of: {', '.join(SOURCES)}.")
        offered = [found["name"] for found in sources_of(self.session.statistics)]
        if self.session.statistics is not None and source not in offered:
            label = SOURCES[source].lower()
            raise Refused(f"this model has no {label}; choose one of: {', '.join(offered)}.")
        return source

    def gather(self) -> "Job":
        """Queue one pass of observation (`observe` is what traitlets calls something else)."""
        return self.submit("observe")

    def refresh(self) -> None:
        """Show the session's statistics, or nothing before there are any."""
        statistics, smoothing = self.session.statistics, self.session.smoothing
        told = (statistics, smoothing, self.session.recipe.smoothing)
        if any(a is not b for a, b in zip(told, getattr(self, "_told", (self,) * 3), strict=True)):
            self._told = told
            self.groups = group_names(self.session)
            self.sources = sources_of(statistics)
            if self.source not in [source["name"] for source in self.sources]:
                self.source = self.sources[0]["name"]
            if self.group not in self.groups:
                self.group = self.groups[0] if self.groups else ""
            self._show()

    def _show(self) -> None:
        """Show the chosen source, and the row in it that belongs to the chosen input."""
        found = rows_of(self.session.statistics, self.source)
        key = (self.session.statistics, self.source)
        if key != getattr(self, "_heated", None):
            self._heated = key
            weights = self.source == "weights"
            lines = [heat_row(s.weight_absmax if weights else s.absmax) for s in found.values()]
            with self.hold_sync():
                self.rows = list(found)
                self.heat_channels = [seen.channels for seen in found.values()]
                self.heat_columns = [len(line) for line in lines]
                self.heat_top = max((line.max().item() for line in lines), default=0.0)
                self.heat = b"".join(packed_heat(line, self.heat_top) for line in lines)
        self._choose_row()
        self._show_row()

    def _choose_row(self) -> None:
        found = rows_of(self.session.statistics, self.source)
        if self.row in found and belongs(found[self.row], self.group):
            return
        names = [name for name, seen in found.items() if belongs(seen, self.group)]
        self.row = (names or [self.row if self.row in found else next(iter(found), "")])[0]

    def _choose_group(self) -> None:
        """Show the chosen row, then let the other views follow."""
        self._show_row()
        statistics = self.session.statistics
        seen = rows_of(statistics, self.source).get(self.row)
        if statistics and seen and not belongs(seen, self.group):
            self.group = group_in(statistics, seen) or self.group

    def _show_row(self) -> None:
        seen = rows_of(self.session.statistics, self.source).get(self.row)
        scales, said = self._scales(seen)
        with self.hold_sync():
            self.smoothed = said
            self.scales = packed(scales) if scales is not None else b""
            self.absmax = packed(seen.absmax) if seen else b""
            self.weight_absmax = packed(seen.weight_absmax) if seen else b""
            self.histograms = self._histograms(seen)
        with self.hold_sync():  # forty times as much, and seldom looked at: it comes behind
            self._show_tokens(seen)

    def _show_tokens(self, seen: "Entry | Stream | None") -> None:
        if seen is None or self.source == "weights":
            self.peaks, self.surface_tokens, self.surface_channels = [], [], []
            self.surface = b""
            return
        tokenizer = self.session.loaded.tokenizer if self.session.loaded else None
        found = zip(
            seen.peaks.channels.tolist(),
            seen.peaks.values.tolist(),
            in_words(tokenizer, seen.peaks.tokens),
            strict=True,
        )
        self.peaks = [{"channel": c, "value": value} | words for c, value, words in found]
        shown = surface(seen)
        self.surface_tokens = in_words(tokenizer, shown.tokens)
        self.surface_channels = shown.channels.tolist()
        self.surface = packed(shown.values)

    def _histograms(self, seen: "Entry | Stream | None") -> list[dict[str, Any]]:
        if self.source != "weights" or not isinstance(seen, Entry) or not self.session.loaded:
            return []
        model = self.session.loaded.model
        return [
            {"layer": matrix.module}
            | histogram(getattr(model.get_submodule(matrix.module), matrix.parameter))
            for matrix in seen.group.matrices
        ]

    def _scales(self, seen: "Entry | Stream | None") -> tuple[torch.Tensor | None, str]:
        """What smoothing divides the channels by, and where that is from."""
        if not isinstance(seen, Entry) or self.source == "weights":
            return None, "smoothing changes inputs of linear layers only"
        built = self.session.smoothing
        group = next((g for g in built.groups if g.name == seen.name), None) if built else None
        if group is not None:
            if group.how == "skipped":
                return None, f"as built: left alone, {group.reason}"
            return group.scales, f"as built: {WAYS[group.how]}, alpha {group.alpha:g}"
        spec = self.session.recipe.smoothing
        if spec is None:
            return None, "the recipe does not smooth"
        if spec.alpha == "auto":
            return None, "alpha is found when the model is built; calibrate to see it"
        alpha = alphas_of(self.session.statistics or (), spec.alpha, spec.overrides)[seen.name]
        if alpha is None:
            return None, "the recipe leaves this input alone"
        return entry_scales(seen, alpha, shared=seen.foldable), f"preview, alpha {alpha:g}"
