"""Every linear layer in one sortable table; choosing a row chooses its input everywhere."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import traitlets as t

from workbench.widgets._arrays import finite, group_names
from workbench.widgets._base import Refused, View

if TYPE_CHECKING:
    from workbench.session import Job

COLUMNS = (
    "name", "outlier_ratio", "bits", "scheme", "how", "op", "bytes", "sqnr_db",
    "predicted_sqnr_db", "latency",
)  # fmt: skip


class LayerTable(View):
    """What is known of each linear layer: its outliers, scheme, op, bytes, error and time."""

    module = "layer_table"
    calls = ("profile",)
    verbs: ClassVar = ("profile",)

    rows = t.List(t.Dict()).tag(sync=True)
    """One dictionary a layer, in execution order: `group`, the columns, and `reason`, `op_reason`,
    `float_bytes`, `ms`. What is not known yet is None. `sqnr_db` was measured in a comparison and
    holds what the layers before have added; `predicted_sqnr_db` is of this layer's weights alone.
    `latency` is the measured share (0..1) of the layer in a prefill that takes `ms` in it.
    """
    sort = t.Unicode("").tag(sync=True)
    """Column that orders the table; empty for execution order.
    - Type: `str`, one of `name outlier_ratio bits scheme how op bytes sqnr_db predicted_sqnr_db
      latency`, default: `""`
    """
    descending = t.Bool(True).tag(sync=True)
    """Whether the largest comes first.
    - Type: `bool`, default: `True`
    """
    filter = t.Unicode("").tag(sync=True)
    """Shows only layers whose name has this in it, or matches it where it holds `*` or `?`.
    - Type: `str`, default: `""` (all)
    """
    group = t.Unicode("").tag(sync=True)
    """The chosen input (a key of `session.statistics.entries`); all layers that read it are marked.
    - Type: `str`, default: the first one
    """

    @t.validate("sort")
    def _is_column(self, proposal: dict[str, Any]) -> str:
        column: str = proposal["value"]
        if column not in ("", *COLUMNS):
            raise Refused(f"no column {column!r}; choose one of: {', '.join(COLUMNS)}.")
        return column

    @property
    def shown(self) -> list[str]:
        """Names of the layers that `filter` lets through, in execution order."""
        return [row["name"] for row in self.rows if matches(row["name"], self.filter)]

    def profile(self) -> "Job":
        """Queue timing of every layer of the frozen model; it is built first where need be."""
        return self.submit("profile")

    def refresh(self) -> None:
        """Gather the rows from what exists: statistics, plan, comparison, predictions, times."""
        session = self.session
        rows = _module_rows(session)
        planned = {layer.name: layer for layer in session.plan.layers} if session.plan else {}
        measured = session.comparison.layers if session.comparison else []
        sqnr = {layer.name: finite(layer.sqnr_db) for layer in measured}
        ways = _ways(session)
        for row in rows:
            name = row["name"]
            row["how"], row["reason"] = ways.get(name, (None, ""))
            row["sqnr_db"] = sqnr.get(name)
            if layer := planned.get(name):
                row |= {
                    "bits": layer.bits,
                    "scheme": layer.scheme,
                    "how": layer.how or row["how"],
                    "op": layer.op,
                    "op_reason": layer.op_reason,
                    "reason": layer.reason or row["reason"],
                    "bytes": layer.bytes,
                    "float_bytes": layer.float_bytes,
                }
            row["predicted_sqnr_db"] = _predicted(session, name, row["bits"])
            if session.times:
                row["latency"] = session.times.share(name)
                row["ms"] = session.times.layers.get(name)
        self.rows = rows
        names = group_names(session)
        if self.group not in names:
            self.group = names[0] if names else ""


def matches(name: str, pattern: str) -> bool:
    """Whether `pattern` is in `name`, or matches the whole where it has wildcards."""
    wanted = pattern.strip().lower()
    if any(mark in wanted for mark in "*?"):
        return fnmatchcase(name.lower(), wanted)
    return wanted in name.lower()


def _module_rows(session: Any) -> list[dict[str, Any]]:
    """List the float model's linears, those that were observed first and in execution order."""
    if session.loaded is None:
        return []
    linears = {
        name: module
        for name, module in session.loaded.model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    owner: dict[str, tuple[str, float | None]] = {}
    if session.statistics:
        for key, entry in session.statistics.entries.items():
            owner |= {name: (key, finite(float(entry.outlier_ratio))) for name in entry.linears}
    order = [name for name in owner if name in linears] + [n for n in linears if n not in owner]
    rows = []
    for name in order:
        size = linears[name].weight.numel() * 4
        group, ratio = owner.get(name, ("", None))
        empty: dict[str, Any] = dict.fromkeys((*COLUMNS, "ms"))
        known = {"name": name, "group": group, "outlier_ratio": ratio, "reason": ""}
        sizes = {"op_reason": "", "bytes": size, "float_bytes": size}
        rows.append(empty | known | sizes)
    return rows


def _ways(session: Any) -> dict[str, tuple[str, str]]:
    """Tell for each layer how its input was smoothed, and why so."""
    groups = session.smoothing.groups if session.smoothing else []
    return {name: (group.how, group.reason) for group in groups for name in group.linears}


def _predicted(session: Any, name: str, bits: int | None) -> float | None:
    """The SQNR in dB that a sensitivity predicts for the layer at its bits, where there is one."""
    found = session.damages
    layer = found.layers.get(name, {}) if found else {}
    return next((finite(d.sqnr_db) for d in layer.values() if d.bits == bits), None)
