"""Checkpoints that quanto's `QuantizedModelForCausalLM.save_pretrained` wrote."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.readers.base import Opened, read_json
from workbench.models.readers.foreign import Converted, modules_in, weight_shapes, zero_points
from workbench.ops.packing import pack
from workbench.quant import QuantArgs

MAP = "quanto_qmap.json"
NOTE = (
    "Written by quanto: what linear layers put out is rounded too, as quanto does when it loads "
    "this. Where its calibration had dropped that rounding (streamline), it did not write it down."
)
SCALES = ("input_scale", "output_scale")


class Quanto:
    """`w = scale * q - shift`, q unsigned below 8 bits (optimum-quanto 0.2.7, `QBitsTensor`)."""

    @staticmethod
    def reads(folder: Path) -> bool:
        return (folder / MAP).is_file()

    @staticmethod
    def open(folder: Path, dtype: torch.dtype) -> Opened:
        made = Converted()
        quantized = read_json(folder / MAP)
        shapes = weight_shapes(folder)
        tensors = modules_in(folder)
        for name, entry in quantized.items():
            own = tensors.pop(name, {})
            scales = {key: own.pop(key, None) for key in SCALES}
            held = {**tensors.pop(f"{name}.weight", {}), **_deeper(tensors, name)}
            weights, activations = (_args(name, entry, key) for key in ("weights", "activations"))
            if weights is not None:
                weights, numbers = _numbers(name, weights, held, shapes)
                own.update(numbers)
            if weights is None and activations is None:
                made.leave(name, own)
                continue
            is_norm = len(shapes.get(name, ())) < 2  # what comes in is not rounded
            for key in SCALES[is_norm:] if activations is not None else ():
                own[key] = _needed(name, key, scales[key]).float().reshape(1)
            made.add(name, own, weights, activations, None if is_norm else activations)
        for name, own in tensors.items():
            made.leave(name, own)
        rounded = any(entry["activations"] for entry in made.entries.values())
        return made.load(folder, dtype, NOTE if rounded else "")


def _deeper(tensors: dict[str, dict[str, Tensor]], name: str) -> dict[str, Tensor]:
    """Packed data, which quanto keeps one name deeper than other data."""
    found = tensors.pop(f"{name}.weight._data", {})
    return {"packed": found["_data"]} if "_data" in found else {}


def _args(name: str, entry: Any, key: str) -> QuantArgs | None:
    said = entry.get(key) if isinstance(entry, dict) else None
    if said in (None, "none"):
        return None
    try:
        args = QuantArgs(dtype=str(said).removeprefix("q"))
    except ValueError as error:
        raise WorkbenchError(f"{MAP} quantizes {name} as {said!r}, which is unknown") from error
    return args if key == "weights" else args.model_copy(update={"granularity": "tensor"})


def _numbers(
    name: str, args: QuantArgs, held: dict[str, Tensor], shapes: dict[str, torch.Size]
) -> tuple[QuantArgs, dict[str, Tensor]]:
    """Arguments and tensors of ours for the weight of `name`."""
    scale = _needed(name, "weight._scale", held.get("_scale")).float()
    if not args.qtype.packed:
        data = _needed(name, "weight._data", held.get("_data"))
        return args, {"weight": data, "weight_scale": scale.flatten(1)}
    packed = _needed(name, "weight._data._data", held.get("packed"))
    shift = _needed(name, "weight._shift", held.get("_shift")).float()
    bits, shape = args.qtype.bits, shapes.get(name)
    if shape is None:
        raise WorkbenchError(f"the checkpoint quantizes {name!r}, which the model lacks")
    # Row i of [out * groups, size] shares a byte with row i + rows / (8 / bits), low bits first.
    parts = [(packed >> bits * index) & 2**bits - 1 for index in range(8 // bits)]
    half = 2 ** (bits - 1)
    values = torch.cat(parts)[: scale.numel()].to(torch.int8) - half
    if values.numel() != shape.numel():
        raise WorkbenchError(
            f"{name}.weight holds {values.numel()} values; the model needs {tuple(shape)}"
        )
    # A group of one value alone has scale 0 and that value, negated, as its shift.
    single = scale.flatten() == 0
    values[single] = 0
    offset = torch.where(single, shift.flatten(), shift.flatten() / scale.flatten() - half)
    scale = torch.where(single, 1, scale.flatten()).reshape(shape[0], -1)
    size = shape[1:].numel() // scale.shape[1]
    points = zero_points(offset.reshape(shape[0], -1))
    numbers = {
        "weight_packed": pack(values.reshape(shape[0], -1), bits),
        "weight_shape": torch.tensor(shape),
        "weight_scale": scale,
        **({} if points is None else {"weight_zero_point": points}),
    }
    grouped = {"granularity": "group", "group_size": size, "symmetric": points is None}
    return args.model_copy(update=grouped), numbers


def _needed(name: str, key: str, tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise WorkbenchError(f"the checkpoint lacks {name}.{key}")
    return tensor
