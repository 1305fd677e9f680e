"""Write a model, quantized or not, so that it reloads bit for bit."""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.models.atomic import replacing
from workbench.models.checkpoint import INDEX
from workbench.models.formats import METHOD, quantization_config
from workbench.models.manifest import (
    MANIFEST,
    Manifest,
    by_module,
    encoded,
    frozen_modules,
)
from workbench.quant import QModule
from workbench.quant.dtypes import dtype_name


def save(
    model: nn.Module,
    folder: Path | str,
    *,
    tokenizer: Any = None,
    recipe: str | None = None,
    plan: str | None = None,
    note: str = "",
    max_shard_size: int | str = "5GB",
) -> Path:
    """Write `model` to `folder`, replacing what is there in one step; return the folder.

    Tensors carry compressed-tensors' names and packing where it can say the scheme; float tensors
    that bfloat16 holds exactly are stored as such. Files hold at most `max_shard_size` each.
    `recipe` and `plan` are JSON documents kept beside them, `note` a caution for whoever loads it.
    Raises WorkbenchError, the old content untouched, where the folder cannot be written or a
    quantized module is not frozen.
    """
    folder = Path(folder).expanduser()
    tensors, manifest = stored(model, note)
    shards = split_torch_state_dict_into_shards(
        tensors, filename_pattern="model{suffix}.safetensors", max_shard_size=max_shard_size
    )
    with replacing(folder) as made:
        for name, keys in shards.filename_to_tensors.items():
            save_file({k: tensors[k] for k in keys}, made / name, metadata={"format": "pt"})
        if shards.is_sharded:
            index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
            _write(made / INDEX, index)
        _write(made / MANIFEST, manifest.model_dump())
        _write_config(model, manifest, made)
        if tokenizer is not None:
            tokenizer.save_pretrained(made)
        for name, document in (("recipe.json", recipe), ("plan.json", plan)):
            if document is not None:
                (made / name).write_text(document, encoding="utf-8")
    return folder


def stored(model: nn.Module, note: str = "") -> tuple[dict[str, Tensor], Manifest]:
    """The tensors of the frozen `model` as they lie on disk, and the manifest that reads them.

    Each shared tensor is there once, each float one as short as it goes without loss.
    """
    manifest = Manifest.of(model, note)
    modules = frozen_modules(model)
    tensors: dict[str, Tensor] = {}
    for owner, own in by_module(_unshared(model, modules)).items():
        numbers: set[str] = set()
        if owner in modules:
            numbers.update(modules[owner].quantized_buffers())
            own = encoded(manifest.quantization_map[owner], own)
        for last, tensor in own.items():
            key = f"{owner}.{last}" if owner else last
            short = tensor if last in numbers else _shortened(tensor)
            if short.dtype != tensor.dtype:
                manifest.dtypes[key] = dtype_name(tensor.dtype)
            tensors[key] = short.contiguous().cpu()
    return tensors, manifest


def described(model: nn.Module) -> dict[str, Any]:
    """The `quantization_config` of the frozen `model`."""
    linears = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    modules = frozen_modules(model)
    said = quantization_config(modules, [name for name in linears if name not in modules])
    firsts = [m._buffers.get(f"{n}_scale") for m in modules.values() for n in m.weight_names]
    if len({id(scale) for scale in firsts}) < len(firsts):
        said["quant_method"] = METHOD  # others want the integers of a tied weight twice
    return said


def _unshared(model: nn.Module, modules: dict[str, QModule]) -> dict[str, Tensor]:
    """The state of `model`: a tied weight under its first name only, other shared tensors copied.

    Loading ties weights again; files cannot hold one tensor under two names.
    """
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, module in modules.items():
        starts = tuple(f"{name}.{weight}" for weight in module.weight_names)
        tied.update(key for key in module.state_dict(prefix=f"{name}.") if key.startswith(starts))
    kept: dict[str, Tensor] = {}
    seen: set[tuple[int, torch.Size, torch.dtype]] = set()
    for key, tensor in model.state_dict().items():
        identity = (tensor.data_ptr(), tensor.shape, tensor.dtype)
        again = tensor.numel() > 0 and identity in seen
        if not (again and key in tied):
            kept[key] = tensor.clone() if again else tensor
        seen.add(identity)
    return kept


def _shortened(tensor: Tensor) -> Tensor:
    """The tensor as bfloat16 where that holds every value of it."""
    if tensor.dtype != torch.float32 or tensor.numel() < 2:
        return tensor
    short = tensor.to(torch.bfloat16)
    return short if torch.equal(short.to(torch.float32), tensor) else tensor


def _write_config(model: nn.Module, manifest: Manifest, folder: Path) -> None:
    """Write what transformers reads, where the model is one of its own."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "to_dict"):
        return
    values = config.to_dict() | {"architectures": [type(model).__name__], "dtype": manifest.dtype}
    values.pop("quantization_config", None)
    if manifest.quantization_map:
        # transformers reads no other file; other engines pass over the manifest
        values["quantization_config"] = described(model) | {"manifest": manifest.model_dump()}
    _write(folder / "config.json", values)
    generation: Any = getattr(model, "generation_config", None)
    if generation is not None:
        generation.save_pretrained(folder)


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")
