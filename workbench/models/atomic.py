"""Replace a folder or file in one step: whoever looks sees the old one or the new one, whole."""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from workbench.errors import WorkbenchError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder` that takes its place when the block ends without error.

    The exchange is one system call where the platform has it (Linux); elsewhere the old folder is
    moved aside first, and `recover` brings it back after a crash between the two moves. Raises
    WorkbenchError where nothing can be written.
    """
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not folder.is_dir():
            raise WorkbenchError(f"{folder} is a file; give the path of a folder")
        recover(folder)
        _sweep(folder)
        made = Path(tempfile.mkdtemp(prefix=f"{_prefix(folder)}{os.getpid()}-", dir=folder.parent))
    except OSError as error:
        raise WorkbenchError(f"{folder} cannot be written: {error.strerror or error}") from error
    try:
        yield made
        for path in made.rglob("*"):
            _flush(path)
        made.chmod(0o755)
        if folder.exists():
            _exchange(made, folder)
        else:
            made.rename(folder)
        _flush(folder.parent)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WorkbenchError(f"{folder} cannot be written: {reason}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def recover(folder: Path) -> None:
    """Bring back a folder that a crash left moved aside; a no-op everywhere else."""
    aside = _aside(folder)
    if not folder.exists() and aside.is_dir():
        aside.rename(folder)


def _exchange(made: Path, folder: Path) -> None:
    """Swap two folders; afterwards `made` names the old content."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        old, new = os.fsencode(made), os.fsencode(folder)
        if rename(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_EXCHANGE) == 0:
            return
    aside = _aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    made.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what killed writers of this folder left behind."""
    for path in folder.parent.glob(_prefix(folder) + "*"):
        owner = path.name.removeprefix(_prefix(folder)).partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    """Make sure that the content of `path` survives a loss of power."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _prefix(folder: Path) -> str:
    return f".{folder.name}.writing-"


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def try_writing(path: Path) -> None:
    """Raise WorkbenchError now where `write_text` could not write to `path` later."""
    if path.is_dir():
        raise WorkbenchError(f"{path} is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise WorkbenchError(f"{path} cannot be written: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Write `text` beside `path` first, so that a reader never sees half of it.

    Folders that are missing are made. Raises WorkbenchError where it cannot be written; what was
    there before stays.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    except OSError as error:
        with suppress(OSError):
            half.unlink()
        raise WorkbenchError(f"{path} cannot be written: {error.strerror}") from error
