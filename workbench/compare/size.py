"""How much a saved model takes on disk."""

from pathlib import Path

from workbench.errors import WorkbenchError


def bytes_on_disk(folder: str | Path) -> int:
    """Add up every file of a checkpoint: weights, configuration, tokenizer, recipe and plan."""
    folder = Path(folder)
    if not folder.is_dir():
        raise WorkbenchError(f"{folder} is not a folder; give the one that save() was given.")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
