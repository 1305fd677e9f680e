"""Read back the JSON of a document that was saved."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from workbench.errors import WorkbenchError

Document = TypeVar("Document", bound=BaseModel)


def read_document(kind: type[Document], path: Path | str, refusal: str) -> Document:
    """Read the document at `path`; raises WorkbenchError where there is none.

    `refusal` is what is said of another file, with places for its `{path}` and the `{reason}`.
    """
    try:
        return kind.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise WorkbenchError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        reason = f"{where}: {first['msg']}"
        raise WorkbenchError(refusal.format(path=path, reason=reason)) from error
