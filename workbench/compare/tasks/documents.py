"""Documents of a task, read from a file and judged at the door."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from workbench.errors import WorkbenchError, complaint
from workbench.models.text import draw

Text = Annotated[str, Field(min_length=1)]


class Document(BaseModel):
    """One row of a file; further fields are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Continuation(Document):
    """A text and the word that follows it."""

    context: Text
    continuation: Text


class Choice(Document):
    """A question with answers, of which number `gold` is right."""

    query: Text
    choices: Annotated[list[Text], Field(min_length=2)]
    gold: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _gold_is_a_choice(self) -> Self:
        if self.gold >= len(self.choices):
            raise ValueError(f"gold is {self.gold}, but there are {len(self.choices)} choices")
        return self


class YesOrNo(Document):
    """A passage and a question that it answers with yes or no."""

    passage: Text
    question: Text
    label: bool


D = TypeVar("D", bound=BaseModel)


def read(path: Path, row: Callable[[str], D]) -> list[D]:
    """Read one document a line of a UTF-8 file with `row`.

    Raises WorkbenchError naming the line, what was found and what is allowed; also where the file
    is missing, unreadable or empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbenchError(f"{path} cannot be read as UTF-8 text: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found.append(row(line))
            except ValidationError as error:
                raise WorkbenchError(f"{path}, line {number}: {complaint(error)}") from error
    if not found:
        raise WorkbenchError(f"{path} holds no document; give at least one line.")
    return found


def drawn(documents: Sequence[D], limit: int | None, seed: int) -> list[D]:
    """Take `limit` documents drawn by `seed`, in their order; all where `limit` is None."""
    if limit is not None and limit < 1:
        raise WorkbenchError(f"limit is {limit}; give at least 1, or None for every document.")
    return [documents[index] for index in draw(len(documents), limit, seed)]
