"""Pictures that a user brings: opened within limits, split by content, made into batches."""

import io
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.own_text import digest
from workbench.models.text import Split, draw

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG")
SUFFIXES = (".png", ".jpg", ".jpeg")
MOST_PIXELS = 25_000_000
CONFIGS = ("preprocessor_config.json", "processor_config.json")


def processor_in(folder: Path) -> Any:
    """The image processor beside the model in `folder`; None where there is none, or no Pillow."""
    if find_spec("PIL") is None or not any((folder / name).is_file() for name in CONFIGS):
        return None
    from transformers import AutoImageProcessor  # slow to import

    try:
        return AutoImageProcessor.from_pretrained(
            folder, backend="pil"
        )  # the same bits with and without torchvision
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise WorkbenchError(f"the image processor in {folder} is damaged: {error}") from error


def decoded(content: bytes, name: str) -> "Image":
    """Read a PNG or JPEG picture as RGB, turned the way its camera was held.

    Raises WorkbenchError where it is something else, damaged, or of more than 25 million pixels.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise WorkbenchError(
            "pictures need Pillow, which is not installed: run "
            "`pip install 'quantization-workbench[images]'`."
        ) from error
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        if picture.width * picture.height > MOST_PIXELS:
            raise Image.DecompressionBombError(f"{picture.width} x {picture.height} pixels")
        return ImageOps.exif_transpose(picture).convert("RGB")
    except Image.DecompressionBombError as error:
        raise WorkbenchError(
            f"{name} is too large a picture ({error}); allowed: {MOST_PIXELS:,} pixels: make it "
            "smaller, as the model will in any case."
        ) from error
    except UnidentifiedImageError as error:
        raise WorkbenchError(
            f"{name} cannot be read as a picture; give a whole PNG or JPEG file."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise WorkbenchError(
            f"{name} cannot be read as a picture ({str(error)[:100]}); give a whole PNG or JPEG "
            "file."
        ) from error


def drawn(folder: Path | str, split: Split, samples: int | None, seed: int) -> list["Image"]:
    """Read the pictures of `folder` that fall to `split`; `seed` draws `samples`, None takes all.

    In the order of their SHA-256 the first half calibrates and the second judges, each content
    once, so that none does both. Raises WorkbenchError where there are fewer than two.
    """
    place = Path(folder).expanduser()
    found = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
    by_content = {digest(path.read_bytes()): path for path in found}
    if len(by_content) < 2:
        raise WorkbenchError(
            f"{folder} holds {len(by_content)} different pictures ({', '.join(SUFFIXES)}); give a "
            "folder of at least 2: one half of them calibrates, the other judges."
        )
    ordered = [by_content[key] for key in sorted(by_content)]
    middle = (len(ordered) + 1) // 2
    own = ordered[:middle] if split == "calibration" else ordered[middle:]
    return [decoded(own[i].read_bytes(), str(own[i])) for i in draw(len(own), samples, seed)]


def batched(processor: Any, pictures: list["Image"], size: int) -> list[dict[str, Tensor]]:
    """The keyword inputs of `pictures`, in order, `size` at a time."""
    parts = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    return [
        {"pixel_values": processor(images=part, return_tensors="pt")["pixel_values"]}
        for part in parts
    ]
