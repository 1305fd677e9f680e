"""What the page around the widgets allows: a notebook's owner more than a visitor of an app."""

import os
from pathlib import Path

from workbench.session.host import served

MODELS = "WORKBENCH_MODELS"
SAVES = "WORKBENCH_SAVES"

__all__ = ["allowed_models", "place", "save_root", "served"]


def place() -> str:
    """What tells this notebook from others: its path where the server gave it, else its folder."""
    return os.environ.get("JPY_SESSION_NAME") or str(Path.cwd())


def allowed_models(bundled: list[str]) -> list[str]:
    """List what a visitor may load: the operator's list, or else the bundled models."""
    listed = [name.strip() for name in os.environ.get(MODELS, "").split(",")]
    return [name for name in listed if name] or bundled


def save_root() -> Path | None:
    """Give the folder that visitors may save into; None when the operator gave none."""
    folder = os.environ.get(SAVES)
    return Path(folder) if folder else None
