"""Write a model, quantized or not, so that it reloads bit for bit."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import nn

from workbench.models.atomic import replacing
from workbench.models.card import README, Origin, card
from workbench.models.checkpoint import INDEX
from workbench.models.formats import METHOD, quantization_config
from workbench.models.manifest import MANIFEST, Manifest, frozen_modules
from workbench.models.on_disk import OnDisk


def save(
    model: nn.Module,
    folder: Path | str,
    *,
    tokenizer: Any = None,
    recipe: str | None = None,
    plan: str | None = None,
    note: str = "",
    origin: Origin | None = None,
    max_shard_size: int | str = "5GB",
) -> Path:
    """Write `model` to `folder`, replacing what is there in one step; return the folder.

    Tensors carry compressed-tensors' names and packing where it can say the scheme; float tensors
    that bfloat16 holds exactly are stored as such. Files hold at most `max_shard_size` each, and
    what one of them holds is all that is in memory beside the model.
    `tokenizer` may be an image processor as well. `recipe` and `plan` are JSON documents kept
    beside them, `note` a caution for whoever loads it.
    A model card goes with them (README.md), with what `origin` knows and nothing that it does not.
    Raises WorkbenchError, the old content untouched, where the folder cannot be written or a
    quantized module is not frozen.
    """
    folder = Path(folder).expanduser()
    disk = OnDisk(model, note)
    shards = split_torch_state_dict_into_shards(
        disk.outlines(),
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=max_shard_size,
    )
    with replacing(folder) as made:
        for name, keys in shards.filename_to_tensors.items():
            save_file(disk.chosen(keys), made / name, metadata={"format": "pt"})
        if shards.is_sharded:
            index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
            _write(made / INDEX, index)
        _write(made / MANIFEST, disk.manifest.model_dump())
        _write_config(model, disk.manifest, made)
        if tokenizer is not None:
            tokenizer.save_pretrained(made)
        for name, document in (("recipe.json", recipe), ("plan.json", plan)):
            if document is not None:
                (made / name).write_text(document, encoding="utf-8")
        config = getattr(model, "config", None)
        config = config if hasattr(config, "to_dict") else None
        text = card(folder.name, disk.manifest, origin or Origin(), recipe, config)
        (made / README).write_text(text, encoding="utf-8")
    return folder


def described(model: nn.Module) -> dict[str, Any]:
    """The `quantization_config` of the frozen `model`."""
    linears = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    modules = frozen_modules(model)
    said = quantization_config(modules, [name for name in linears if name not in modules])
    firsts = [m._buffers.get(f"{n}_scale") for m in modules.values() for n in m.weight_names]
    if len({id(scale) for scale in firsts}) < len(firsts):
        said["quant_method"] = METHOD  # others want the integers of a tied weight twice
    return said


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
