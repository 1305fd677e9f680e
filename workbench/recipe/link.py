"""A recipe as a short text that fits into a link, and back, whoever wrote the link."""

import base64
import binascii
import json
import zlib
from collections.abc import Collection

from workbench.errors import WorkbenchError
from workbench.recipe.spec import VERSION, Recipe

PARAMETER = "recipe"  # of a query string
MOST_CHARACTERS = 6000  # some servers take no longer address than 8 KB
MOST_BYTES = 64_000  # of the document: what a few characters can unpack to has to have an end


def encode_recipe(recipe: Recipe) -> str:
    """Write what `recipe` says beyond the defaults as compressed base64url.

    Raises WorkbenchError for a recipe that names a file of this machine or is too long.
    """
    if recipe.calibration.text is not None:
        raise WorkbenchError(
            f"the recipe calibrates on the file {recipe.calibration.text!r}, which whoever follows "
            "the link does not have: use the bundled text, or send the recipe as a file"
        )
    document = {"version": VERSION, **recipe.model_dump(mode="json", exclude_defaults=True)}
    packed = zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 9)
    text = base64.urlsafe_b64encode(packed).decode().rstrip("=")
    if len(text) > MOST_CHARACTERS:
        raise WorkbenchError(
            f"the link would have {len(text)} characters, and {MOST_CHARACTERS} are the most: send "
            "the recipe as a file, or set bits by pattern instead of layer by layer"
        )
    return text


def decode_recipe(text: str, models: Collection[str] | None = None) -> Recipe:
    """Read what `encode_recipe` wrote; nothing that it says is trusted.

    With `models`, `safe_recipe` judges it too. Raises WorkbenchError for whatever is no recipe.
    """
    if len(text) > MOST_CHARACTERS:
        raise WorkbenchError(
            f"the recipe in the link has {len(text)} characters; {MOST_CHARACTERS} are the most"
        )
    try:
        packed = base64.b64decode(
            text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
        )
        unpacking = zlib.decompressobj()
        document = unpacking.decompress(packed, MOST_BYTES)
        if not unpacking.eof or unpacking.unused_data:
            raise ValueError("it does not end where it should, or is too long")
        written = document.decode("utf-8")
    except (ValueError, binascii.Error, zlib.error) as error:
        raise WorkbenchError(
            f"the link holds no recipe ({error}): copy it whole, or load the recipe from a file"
        ) from error
    return read_recipe(written, models)


def read_recipe(text: str, models: Collection[str] | None = None) -> Recipe:
    """Read a document from outside, as from an uploaded file; see `decode_recipe`."""
    if len(text) > MOST_BYTES:
        raise WorkbenchError(f"the recipe has {len(text)} characters; {MOST_BYTES} are the most")
    try:
        recipe = Recipe.from_json(text)
    except RecursionError as error:
        raise WorkbenchError("the recipe is nested too deeply to be one") from error
    return recipe if models is None else safe_recipe(recipe, models)


def safe_recipe(recipe: Recipe, models: Collection[str]) -> Recipe:
    """Return `recipe` if a visitor may have it: one of `models`, and no data by name.

    Raises WorkbenchError otherwise.
    """
    if recipe.model not in models:
        raise WorkbenchError(
            f"no model {recipe.model!r} here; choose one of: {', '.join(sorted(models))}"
        )
    if recipe.calibration.source:
        raise WorkbenchError("the recipe names data to calibrate on, and a visitor may not")
    return recipe
