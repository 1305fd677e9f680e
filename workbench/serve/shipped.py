"""Where the notebooks lie, and a copy of them that may be edited."""

import shutil
from pathlib import Path

from workbench.errors import WorkbenchError

PACKAGE = Path(__file__).parents[1]


def notebooks() -> Path:
    """Find the shipped notebooks: inside an installed package, or beside it in a checkout."""
    for folder in (PACKAGE / "notebooks", PACKAGE.parent / "notebooks"):
        if (folder / "workbench.ipynb").is_file():
            return folder
    raise WorkbenchError(
        f"no notebooks beside {PACKAGE}; reinstall quantization-workbench, or name a folder."
    )


def working_copy(folder: Path | None = None) -> Path:
    """Give a folder whose notebooks may be edited: `folder`, or `notebooks` in the current one.

    Notebooks that are missing there are copied from the installation; those present are left alone.
    """
    source = notebooks()
    target = Path("notebooks") if folder is None else Path(folder)
    if target.resolve() != source.resolve():
        target.mkdir(parents=True, exist_ok=True)
        for notebook in source.glob("*.ipynb"):
            if not (target / notebook.name).exists():
                shutil.copyfile(notebook, target / notebook.name)
    return target.resolve()
