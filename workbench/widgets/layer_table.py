"""Every linear layer in one sortable table; choosing a row chooses its input everywhere."""

from typing import Any

import torch
import traitlets as t

from workbench.widgets._arrays import finite, group_names
from workbench.widgets._base import Refused, View

COLUMNS = ("name", "outlier_ratio", "scheme", "how", "op", "bytes", "sqnr_db")


class LayerTable(View):
    """Outlier ratio, scheme, way of smoothing, op, bytes and SQNR of every linear layer."""

    module = "layer_table"

    rows = t.List(t.Dict()).tag(sync=True)
    """One dictionary a layer, in execution order: `group`, the columns, and `reason`, `op_reason`,
    `float_bytes`. What is not known yet is None.
    """
    sort = t.Unicode("").tag(sync=True)
    """Column that orders the table; empty for execution order.
    - Type: `str`, one of `name outlier_ratio scheme how op bytes sqnr_db`, default: `""`
    """
    descending = t.Bool(True).tag(sync=True)
    """Whether the largest comes first.
    - Type: `bool`, default: `True`
    """
    group = t.Unicode("").tag(sync=True)
    """The chosen input (a key of `session.statistics.entries`); all layers that read it are marked.
    - Type: `str`, default: `""`
    """

    @t.validate("sort")
    def _is_column(self, proposal: dict[str, Any]) -> str:
        column: str = proposal["value"]
        if column not in ("", *COLUMNS):
            raise Refused(f"no column {column!r}; choose one of: {', '.join(COLUMNS)}.")
        return column

    def refresh(self) -> None:
        """Gather the rows from statistics, smoothing, plan and comparison, whichever exist."""
        session = self.session
        rows = _module_rows(session)
        planned = {layer.name: layer for layer in session.plan.layers} if session.plan else {}
        sqnr = {}
        if session.comparison:
            sqnr = {layer.name: finite(layer.sqnr_db) for layer in session.comparison.layers}
        ways = _ways(session)
        for row in rows:
            name = row["name"]
            row["how"], row["reason"] = ways.get(name, (None, ""))
            row["sqnr_db"] = sqnr.get(name)
            if layer := planned.get(name):
                row |= {
                    "scheme": layer.scheme,
                    "how": layer.how or row["how"],
                    "op": layer.op,
                    "op_reason": layer.op_reason,
                    "reason": layer.reason or row["reason"],
                    "bytes": layer.bytes,
                    "float_bytes": layer.float_bytes,
                }
        self.rows = rows
        names = group_names(session)
        if self.group not in names:
            self.group = names[0] if names else ""


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
        rows.append(
            {
                "name": name,
                "group": group,
                "outlier_ratio": ratio,
                "scheme": None,
                "how": None,
                "reason": "",
                "op": None,
                "op_reason": "",
                "bytes": size,
                "float_bytes": size,
                "sqnr_db": None,
            }
        )
    return rows


def _ways(session: Any) -> dict[str, tuple[str, str]]:
    """Tell for each layer how its input was smoothed, and why so."""
    groups = session.smoothing.groups if session.smoothing else []
    return {name: (group.how, group.reason) for group in groups for name in group.linears}
