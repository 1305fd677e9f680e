"""What was measured or chosen at some expense, in a file for the next time."""

from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict

from workbench.models.atomic import write_text
from workbench.models.document import read_document


class Kept(BaseModel):
    """Something that a JSON file can hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def save(self, path: Path | str) -> None:
        """Write a JSON file, which a reader sees whole or not at all."""
        write_text(Path(path), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; raises WorkbenchError where the file is something else."""
        what = cls.__name__.lower()
        return read_document(cls, path, f"{{path}} cannot be read as {what}: {{reason}}")


K = TypeVar("K", bound=Kept)


def cached(kind: type[K], path: Path | str, compute: Callable[[], K]) -> K:
    """What the file `path` holds; computed, and kept there, where there is none.

    The name is the key: let it hold the hashes of the recipe, the model and the data.
    """
    if Path(path).exists():
        return kind.load(path)
    found = compute()
    found.save(path)
    return found
