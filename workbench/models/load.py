"""Load a model by bundled name, local folder or hub id."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from workbench.errors import WorkbenchError
from workbench.models.atomic import recover
from workbench.models.bundled import Kind, bundled
from workbench.models.loaded import LoadedModel
from workbench.models.manifest import MANIFEST, Manifest
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
        model, tokenizer, kind = _from_transformers(str(name), str(name), dtype)
        return LoadedModel(str(name), model, tokenizer, kind, "", None)
    raise WorkbenchError(
        f"there is no model {str(name)!r}; allowed: a bundled name ({', '.join(bundled)}), "
        "a local folder, or a hub id such as 'org/model'"
    )


def _load_folder(folder: Path, name: str, note: str, dtype: torch.dtype) -> LoadedModel:
    if not (folder / "config.json").is_file():
        raise WorkbenchError(f"{folder} holds no config.json: it is no model folder")
    manifest = Manifest.read(folder / MANIFEST)
    if manifest is None:
        model, tokenizer, kind = _from_transformers(str(folder), name, dtype)
        return LoadedModel(name, model, tokenizer, kind, note, folder)
    model, tokenizer, kind = _from_manifest(folder, manifest)
    return LoadedModel(name, model, tokenizer, kind, manifest.note, folder)


def _from_transformers(where: str, name: str, dtype: torch.dtype) -> tuple[nn.Module, Any, Kind]:
    """Let transformers load a float model, and refuse weights it had to make up."""
    from transformers import AutoConfig, AutoTokenizer  # slow to import

    try:
        config = AutoConfig.from_pretrained(where)
        auto_class, kind = _auto_class(config)
        model, info = auto_class.from_pretrained(
            where, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(where)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WorkbenchError(f"{name} cannot be loaded: {reason[:300]}") from error
    # A pooler is for classification; encoders are used here through their hidden states.
    missing = sorted(key for key in info["missing_keys"] if "pooler." not in key)
    mismatched = sorted(str(key) for key in info.get("mismatched_keys", ()))
    if missing or mismatched:
        bad = (missing + mismatched)[0]
        raise WorkbenchError(
            f"the weights of {name} do not fit its config: {bad} is missing or has another shape"
        )
    return model.eval(), tokenizer, kind


def _from_manifest(folder: Path, manifest: Manifest) -> tuple[nn.Module, Any, Kind]:
    """Rebuild what `save` wrote, bit for bit."""
    from transformers import AutoConfig, AutoTokenizer  # slow to import

    try:
        tensors = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise WorkbenchError(
            f"{folder / 'model.safetensors'} is missing, truncated or corrupt: {error}"
        ) from error
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        values.pop("quantization_config", None)
        config = AutoConfig.for_model(values.pop("model_type"), **values)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise WorkbenchError(f"{folder / 'config.json'} is damaged: {error}") from error
    auto_class, kind = _auto_class(config)
    model = auto_class.from_config(config, dtype=manifest.torch_dtype)
    requantize(model, manifest.restore(tensors), manifest.quantization_map)
    tokenizer = None
    if (folder / "tokenizer_config.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return model.eval(), tokenizer, kind


def _auto_class(config: Any) -> tuple[Any, Kind]:
    """The transformers class to load with: the language model where there is a causal one."""
    from transformers import AutoModel, AutoModelForCausalLM  # slow to import

    names = getattr(config, "architectures", None) or []
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return AutoModelForCausalLM, "causal-lm"
    return AutoModel, "encoder"
