"""Checkpoints of float models, which transformers reads by itself."""

from pathlib import Path

import torch

from workbench.models.checkpoint import Checkpoint
from workbench.models.readers.base import Opened, from_transformers


class Plain:
    """Any folder with a config.json that nobody else claimed."""

    @staticmethod
    def reads(folder: Path) -> bool:
        return (folder / "config.json").is_file()

    @staticmethod
    def open(folder: Path, dtype: torch.dtype) -> Opened:
        Checkpoint.of(folder)  # says at once that a pickle is not read
        return from_transformers(str(folder), folder.name, dtype)
