"""Write a model, quantized or not, so that it reloads bit for bit."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.atomic import replacing
from workbench.models.manifest import MANIFEST, Manifest
from workbench.quant import QModule, quantization_map


def save(
    model: nn.Module,
    folder: Path | str,
    *,
    tokenizer: Any = None,
    recipe: str | None = None,
    plan: str | None = None,
    note: str = "",
) -> Path:
    """Write `model` to `folder`, replacing what is there in one step; return the folder.

    Tensors carry compressed-tensors' names; float tensors that bfloat16 holds exactly are stored as
    such. `recipe` and `plan` are JSON documents kept beside them, `note` a caution for whoever
    loads it. Raises WorkbenchError, the old content untouched, where the folder cannot be written
    or a quantized module is not frozen.
    """
    folder = Path(folder).expanduser()
    unfrozen = [n for n, m in model.named_modules() if isinstance(m, QModule) and not m.frozen]
    if unfrozen:
        raise WorkbenchError(
            f"{unfrozen[0]} is quantized but not frozen: freeze the model, then save"
        )
    floats = [p.dtype for p in model.parameters() if p.is_floating_point()]
    dtype = str(floats[0] if floats else torch.float32).removeprefix("torch.")
    manifest = Manifest(dtype=dtype, note=note, quantization_map=quantization_map(model))
    with replacing(folder) as made:
        save_file(stored_tensors(model), made / "model.safetensors", metadata={"format": "pt"})
        _write(made / MANIFEST, manifest.model_dump())
        config = getattr(model, "config", None)
        if config is not None:
            values = config.to_dict() | {"architectures": [type(model).__name__]}
            if manifest.quantization_map:
                values["quantization_config"] = quantization_config(model)
            _write(made / "config.json", values)
        if tokenizer is not None:
            tokenizer.save_pretrained(made)
        for name, document in (("recipe.json", recipe), ("plan.json", plan)):
            if document is not None:
                (made / name).write_text(document, encoding="utf-8")
    return folder


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of `model` by name, each shared one once, as short as they go without loss."""
    tensors: dict[str, Tensor] = {}
    seen: set[tuple[int, torch.Size, torch.dtype]] = set()
    for key, tensor in model.state_dict().items():
        identity = (tensor.data_ptr(), tensor.shape, tensor.dtype)
        if tensor.numel() and identity in seen:
            continue
        seen.add(identity)
        short = tensor.to(torch.bfloat16) if tensor.dtype == torch.float32 else tensor
        exact = short is tensor or torch.equal(short.to(torch.float32), tensor)
        tensors[key] = (short if exact and tensor.numel() > 1 else tensor).contiguous().cpu()
    return tensors


def quantization_config(model: nn.Module) -> dict[str, Any]:
    """Describe the quantization to other loaders, as compressed-tensors does where it can say it.

    An input transform is beyond that format; a checkpoint that has one says so by another method
    name.
    """
    modules = {n: m for n, m in model.named_modules() if isinstance(m, QModule)}
    first = next(iter(modules.values()))
    inputs = first.activations
    transformed = any(module.input_transform is not None for module in modules.values())
    linears = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    int8 = {"num_bits": 8, "type": "int", "symmetric": True}
    group: dict[str, Any] = {
        "targets": ["Linear"],
        "weights": {**int8, "strategy": "channel", "dynamic": False},
    }
    if inputs is not None:
        strategy = inputs.granularity
        group["input_activations"] = {**int8, "strategy": strategy, "dynamic": inputs.dynamic}
    return {
        "quant_method": "workbench" if transformed else "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": linears,
        "config_groups": {"group_0": group},
    }


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")
