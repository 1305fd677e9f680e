"""Text that a user brings instead of the pinned one: a file, or a data set by name."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.models.text import files, sentences

RUN = 8  # consecutive lines; two files of one author may share fewer by chance
MOST_CHARACTERS = 4_000_000  # of a data set: enough for a thousand sequences of 256 tokens
MOST_ROWS = 100_000


def digest(content: bytes) -> str:
    """The SHA-256 of a file's content, which a recipe may demand."""
    return hashlib.sha256(content).hexdigest()


def decoded(content: bytes, name: str) -> str:
    """Read `content` as UTF-8 text; raises WorkbenchError where it is binary or empty."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WorkbenchError(f"{name} cannot be read as UTF-8 text: {error}") from error
    if "\0" in text:
        raise WorkbenchError(f"{name} cannot be read as UTF-8 text: it holds zero bytes")
    if not text.strip():
        raise WorkbenchError(f"{name} is empty: give text of at least one sequence")
    return text


def read_text(path: Path | str, sha256: str | None = None) -> str:
    """Read a user's UTF-8 text, which must have the digest `sha256` if one is given.

    Raises WorkbenchError where it is missing, binary, empty or another text.
    """
    try:
        content = Path(path).expanduser().read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: "~nobody"
        raise WorkbenchError(f"{path} cannot be read as UTF-8 text: {error}") from error
    found = digest(content)
    if sha256 is not None and found != sha256:
        raise WorkbenchError(
            f"{path} holds another text than the recipe was made with: its SHA-256 is {found}, "
            f"and {sha256} is wanted; give the old file, or choose the text anew"
        )
    return decoded(content, str(path))


def read_dataset(name: str, subset: str | None = None, column: str = "text") -> list[str]:
    """Read texts of the training split of a data set on the hub or in a local folder.

    As many rows as hold four million characters. Only `column` is read, and only from the split
    named "train", so that test splits stay unseen. Raises WorkbenchError where the package
    `datasets` is missing, and where the data set or the column is.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise WorkbenchError(
            f"data set {name!r} needs the package datasets, which is not installed: run "
            "`pip install 'quantization-workbench[data]'`, or give a text file"
        ) from error
    try:
        rows = datasets.load_dataset(name, subset, split="train", streaming=True)
        texts = list(_texts(islice(rows, MOST_ROWS), name, column))
    except WorkbenchError:
        raise
    except Exception as error:
        raise WorkbenchError(
            f"data set {name!r} cannot be read: {str(error).splitlines()[0]}; check its name, its "
            "subset and the network, or give a text file"
        ) from error
    if not texts:
        raise WorkbenchError(f"data set {name!r} has no text in column {column!r}: choose another")
    return texts


def _texts(rows: Iterable[dict[str, Any]], name: str, column: str) -> Iterator[str]:
    left = MOST_CHARACTERS
    for row in rows:
        if not isinstance(row.get(column), str):
            found = ", ".join(key for key, value in row.items() if isinstance(value, str))
            raise WorkbenchError(
                f"data set {name!r} has no text in column {column!r}; columns of text: "
                f"{found or 'none'}"
            )
        if row[column].strip():
            yield row[column]
        left -= len(row[column])
        if left <= 0:
            return


def refuse_held_out(text: str, name: str, *, by_sentence: bool = False) -> None:
    """Raise WorkbenchError where `text` shares a run of lines with the pinned evaluation text.

    Who calibrates on the text that judges measures nothing. Shorter texts are compared whole, and
    with `by_sentence`, as encoders are judged, line by line with the evaluation's sentences.
    """
    runs = _runs(text, 1 if by_sentence else RUN)
    held_out = _held_out_sentences if by_sentence else _held_out
    file = next((found for run in runs if (found := held_out(len(run)).get(run))), None)
    if file is not None:
        raise WorkbenchError(
            f"{name} shares lines with the evaluation text {file}, on which models are judged: "
            "calibrate on other text"
        )


@cache
def _held_out(lines: int) -> dict[tuple[str, ...], str]:
    """The evaluation file of each run of so many lines."""
    return {run: name for name, text in files("evaluation").items() for run in _runs(text, lines)}


@cache
def _held_out_sentences(lines: int) -> dict[tuple[str, ...], str]:
    assert lines == 1
    return {(sentence,): repr(sentence) for sentence in sentences("evaluation")}


def _runs(text: str, lines: int) -> list[tuple[str, ...]]:
    """Every run of `lines` lines that are not blank; the whole text where it has fewer."""
    told = [line.strip() for line in text.splitlines() if line.strip()]
    return [tuple(told[i : i + lines]) for i in range(max(1, len(told) - lines + 1))]
