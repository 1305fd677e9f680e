"""What was measured or chosen at some expense, in a file for the next time."""

from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from workbench.errors import WorkbenchError
from workbench.models.atomic import write_text


class Kept(BaseModel):
    """Something that a JSON file can hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def save(self, path: Path | str) -> None:
        """Write a JSON file, which a reader sees whole or not at all."""
        write_text(Path(path), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; raises WorkbenchError where the file is something else."""
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            reason, what = " ".join(str(error).split()), cls.__name__.lower()
            raise WorkbenchError(f"{path} cannot be read as {what}: {reason}") from error


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
