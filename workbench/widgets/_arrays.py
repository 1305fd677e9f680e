"""Small conversions between the session's tensors and what a browser can be sent."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from workbench.session import Session

COLUMNS = 512


def packed(values: torch.Tensor | np.ndarray) -> bytes:
    """Give `values` as the bytes of a float32 array."""
    return np.ascontiguousarray(np.asarray(values, dtype="<f4")).tobytes()


def finite(value: float | None) -> float | None:
    """Replace what JSON cannot say (nan, inf) by None."""
    return None if value is None or not math.isfinite(value) else float(value)


def heat_row(absmax: torch.Tensor) -> torch.Tensor:
    """Give log10(absmax / median), max-pooled over equal runs to at most 512 columns."""
    median = absmax.median().clamp(min=1e-12)
    levels = (absmax.clamp(min=1e-12) / median).log10()
    run = math.ceil(len(levels) / COLUMNS)
    return torch.nn.functional.max_pool1d(levels[None].float(), run, ceil_mode=True)[0]


def group_names(session: "Session") -> list[str]:
    """List the observed inputs in execution order; empty before observation."""
    return list(session.statistics.entries) if session.statistics else []


def group_of(session: "Session", linear: str) -> str:
    """Give the observed input that feeds module `linear`; empty before observation."""
    if session.statistics:
        for name, entry in session.statistics.entries.items():
            if linear in entry.linears:
                return name
    return ""


def readers(session: "Session") -> dict[str, tuple[str, ...]]:
    """The layers that read each observed input; empty before observation."""
    entries = session.statistics.entries if session.statistics else {}
    return {name: entry.group.readers for name, entry in entries.items()}


def same(before: tuple[object, ...] | None, now: tuple[object, ...]) -> bool:
    """Whether both hold the very same objects, so that a view need not show them again."""
    return before is not None and all(a is b for a, b in zip(before, now, strict=True))
