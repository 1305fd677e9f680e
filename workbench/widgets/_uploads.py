"""Text files that a browser uploads: checked, then kept where a script can read them again."""

import base64
import binascii
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from workbench.errors import WorkbenchError
from workbench.models.own_text import decoded, digest, refuse_held_out
from workbench.widgets._host import served

LIMIT = 1_000_000  # bytes: a thousand sequences of 256 tokens
FOLDER = Path("uploads")  # beside the notebook, so that the printed script finds it


def keep(name: str, content: bytes | str, size: int = 0) -> Path:
    """Write an uploaded file whole or not at all; give its path.

    Of `name` the last part is kept, in letters that any system takes; another content under the
    same name gets a name of its own. Raises WorkbenchError for what is no text for calibration.
    """
    if max(size, len(content) * (3 if isinstance(content, str) else 4) // 4) > LIMIT:
        raise WorkbenchError(
            f"{name!r} has {max(size, len(content)):,} bytes; allowed: {LIMIT:,}. Upload a part "
            "of it: a few hundred kilobytes calibrate as well."
        )
    if isinstance(content, str):
        try:
            content = base64.b64decode(content, validate=True)
        except binascii.Error as error:
            raise WorkbenchError(f"{name!r} arrived damaged ({error}); upload it again.") from error
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
