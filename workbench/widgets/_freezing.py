"""What freezing changed, for a table: layers, bytes, ranges, ops, and what stayed in float."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from workbench.quant import coverage

if TYPE_CHECKING:
    from torch import nn

Change = dict[str, Any]


def changes(session: Any) -> list[Change]:
    """Rows of `key`, `label`, `before`, `after`, of a session whose model is frozen."""
    layers = [layer for layer in session.plan.layers if layer.scheme != "float"]
    before = sum(layer.float_bytes for layer in layers)
    after = sum(layer.bytes for layer in layers)
    whole = session.loaded.bytes
    return [
        _row("layers", "Quantized layers", 0, f"{len(layers)} of {len(session.plan.layers)}"),
        _row("layer_bytes", "Their weights", before, after),
        _row("model_bytes", "All weights", whole, whole - before + after),
        _row("bits", "A weight", "float", _counted(f"{layer.bits} bits" for layer in layers)),
        _row("activations", "Activations", "float", _counted(layer.scheme for layer in layers)),
        _row("ops", "Computed by", "torch", _counted(layer.op for layer in layers)),
    ]


def left_in_float(model: "nn.Module") -> list[dict[str, str]]:
    """Each parameter that stayed in float, with the reason."""
    return [{"name": name, "reason": why} for name, why in coverage(model).exceptions.items()]


def _row(key: str, label: str, before: Any, after: Any) -> Change:
    return {"key": key, "label": label, "before": before, "after": after}


def _counted(values: Iterable[str]) -> str:
    """Each value once; with how many layers have it, where they differ."""
    found = Counter(values)
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(
        f"{value} ({count} layer{'s' if count > 1 else ''})" for value, count in found.most_common()
    )
