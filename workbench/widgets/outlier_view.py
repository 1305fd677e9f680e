"""Which channels stand out, and where in the model they do."""

from typing import TYPE_CHECKING, Any, ClassVar

import traitlets as t

from workbench.widgets._arrays import group_names, heat_row, packed
from workbench.widgets._base import View

if TYPE_CHECKING:
    from workbench.session import Job


class OutlierView(View):
    """Sorted per-channel absmax of one input, and a heatmap of all inputs."""

    module = "outlier_view"
    calls = ("gather",)
    verbs: ClassVar = ("load", "observe")

    view = t.Enum(("which", "where"), "which").tag(sync=True)
    """`"which"` shows the channels of one input, `"where"` the layers by channels heatmap.
    - Type: `str`, default: `"which"`
    """
    group = t.Unicode("").tag(sync=True)
    """The input shown by `"which"`, a key of `session.statistics.entries`.
    - Type: `str`, default: the first one
    """
    groups = t.List(t.Unicode()).tag(sync=True)
    """All observed inputs in execution order; the rows of the heatmap."""
    top = t.Int(6, min=0, max=20).tag(sync=True)
    """How many channels are labelled with their number.
    - Type: `int`, default: `6`
    """
    absmax = t.Bytes().tag(sync=True)
    """Activation absmax per channel of `group`, float32."""
    weight_absmax = t.Bytes().tag(sync=True)
    """Weight absmax per channel over the layers that read `group`, float32."""
    heat = t.Bytes().tag(sync=True)
    """Rows of log10(absmax / median of the row) one after another, float32, max-pooled to 512."""
    heat_columns = t.List(t.Int()).tag(sync=True)
    """Columns of each heatmap row."""
    heat_channels = t.List(t.Int()).tag(sync=True)
    """Channels of each heatmap row before pooling."""

    def __init__(self, session: Any, **keywords: Any) -> None:
        super().__init__(session, **keywords)
        self.observe(self._regroup, "group")

    def gather(self) -> "Job":
        """Queue one pass of observation (`observe` is what traitlets calls something else)."""
        return self.submit("observe")

    def refresh(self) -> None:
        """Show the session's statistics, or nothing before there are any."""
        self.groups = group_names(self.session)
        if self.group not in self.groups:
            self.group = self.groups[0] if self.groups else ""
        self._regroup()
        statistics = self.session.statistics
        if statistics is not getattr(self, "_heated", None):
            self._heated = statistics
            entries = list(statistics.entries.values()) if statistics else []
            rows = [heat_row(entry.absmax) for entry in entries]
            self.heat_channels = [entry.channels for entry in entries]
            self.heat_columns = [len(row) for row in rows]
            self.heat = b"".join(packed(row) for row in rows)

    def _regroup(self, _: Any = None) -> None:
        statistics = self.session.statistics
        entry = statistics.entries.get(self.group) if statistics else None
        self.weight_absmax = packed(entry.weight_absmax) if entry else b""
        self.absmax = packed(entry.absmax) if entry else b""
