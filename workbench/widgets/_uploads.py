"""Files that a browser uploads: checked, and text kept where a script can read it again."""

import base64
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from workbench.errors import WorkbenchError
from workbench.models.own_text import decoded, digest, refuse_held_out
from workbench.widgets._host import served

LIMIT = 1_000_000  # bytes: a thousand sequences of 256 tokens
PART = "Upload a part of it: a few hundred kilobytes calibrate as well."
FOLDER = Path("uploads")  # beside the notebook, so that the printed script finds it


def received(name: str, content: bytes | str, size: int, limit: int, advice: str) -> bytes:
    """The content of an uploaded file, which a browser sends as base64.

    It is empty where the file has a `size` above the `limit` in bytes. Raises WorkbenchError with
    `advice` for what is too large, and for what arrived damaged.
    """
    found = max(size, len(content) * (3 if isinstance(content, str) else 4) // 4)
    if found > limit:
        raise WorkbenchError(f"{name!r} has {found:,} bytes; allowed: {limit:,}. {advice}")
    if isinstance(content, bytes):
        return content
    try:
        return base64.b64decode(content, validate=True)
    except ValueError as error:
        raise WorkbenchError(f"{name!r} arrived damaged ({error}); upload it again.") from error


def keep(name: str, content: bytes | str, size: int = 0) -> Path:
    """Write an uploaded file whole or not at all; give its path.

    Of `name` the last part is kept, in letters that any system takes; another content under the
    same name gets a name of its own. Raises WorkbenchError for what is no text for calibration.
    """
    content = received(name, content, size, LIMIT, PART)
    refuse_held_out(decoded(content, repr(name)), repr(name))
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(name).name).strip("._") or "text"
    stem, suffix = Path(plain).stem.strip("_")[:60], Path(plain).suffix[:10]
    folder = _visitors() if served() else FOLDER
    path = folder / f"{stem}-{digest(content)[:8]}{suffix or '.txt'}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise WorkbenchError(f"the upload cannot be kept in {folder}: {error}") from error
    return path


def _visitors() -> Path:
    """A folder that goes when the kernel does."""
    return Path(_temporary().name)


@cache
def _temporary() -> "TemporaryDirectory[str]":
    return TemporaryDirectory(prefix="workbench-uploads-")
