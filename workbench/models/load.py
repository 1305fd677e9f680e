"""Load a model by bundled name, local folder or hub id."""

import re
from pathlib import Path

import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.garbage import uncollected
from workbench.models.atomic import recover
from workbench.models.bundled import bundled
from workbench.models.checkpoint import Checkpoint
from workbench.models.hub import fetched
from workbench.models.images import processor_in
from workbench.models.loaded import LoadedModel
from workbench.models.manifest import Manifest
from workbench.models.readers import reader_for
from workbench.quant import requantize

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load(name: str | Path, *, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Load the model `name` for inference, with float weights as `dtype`.

    `name` is a bundled name (`workbench.bundled`), a local folder (also one that `save` wrote,
    quantized or not) or a hub id such as "org/model". Only safetensors are read, and no code of the
    model's is run. Raises WorkbenchError where there is no such model or its files are damaged.
    """
    entry = bundled.get(str(name))
    if entry is not None:
        return _load_folder(entry.folder(), entry.name, entry.note, dtype)
    folder = Path(name).expanduser().resolve()
    recover(folder)
    if folder.is_dir():
        return _load_folder(folder, folder.name, "", dtype)
    if HUB_ID.fullmatch(str(name)):
        return _load_folder(fetched(str(name)), str(name), "", dtype)
    raise WorkbenchError(
        f"there is no model {str(name)!r}; allowed: a bundled name ({', '.join(bundled)}), "
        "a local folder, or a hub id such as 'org/model'"
    )


def load_into(model: nn.Module, folder: Path | str) -> nn.Module:
    """Load what `save` wrote into the float `model` of any kind, also one on the meta device.

    Returns it, in evaluation mode. Raises WorkbenchError, naming the tensor, where they do not fit.
    """
    folder = Path(folder).expanduser()
    manifest = Manifest.read(folder)
    if manifest is None:
        raise WorkbenchError(f"{folder} holds no checkpoint that workbench.save wrote")
    tensors = manifest.decoded(Checkpoint.of(folder).tensors())
    requantize(model, tensors, manifest.quantization_map)
    return model.eval()


def _load_folder(folder: Path, name: str, note: str, dtype: torch.dtype) -> LoadedModel:
    with uncollected():
        import transformers.modeling_utils  # noqa: F401 - the slow part of what any reader imports
    opened = reader_for(folder).open(folder, dtype)
    processor = processor_in(folder) if opened.kind == "image-classifier" else None
    return LoadedModel(
        name, opened.model, opened.tokenizer, opened.kind, opened.note or note, folder, processor
    )
