"""Beside the notebook instead of inside it, where JupyterLab can do that."""

from importlib.util import find_spec
from typing import Any

from IPython.display import display

from workbench.widgets._host import served


def dock(widget: Any, title: str = "Quantization Workbench") -> Any:
    """Show `widget` in a panel of its own on the right; in the cell where there is none.

    The panel needs JupyterLab and the package sidecar; an app has no panels. Returns the panel,
    whose `close` takes it away, or None.
    """
    if served() or find_spec("sidecar") is None:
        display(widget)
        return None
    from sidecar import Sidecar

    panel = Sidecar(title=title, anchor="split-right")
    with panel:
        display(widget)
    return panel
