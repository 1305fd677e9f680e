"""Checkpoints in compressed-tensors' formats, as llm-compressor and others write them."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.formats import Packed, Plain, formats
from workbench.models.readers.base import Opened, method, read_json
from workbench.models.readers.foreign import Converted, modules_in
from workbench.quant import QuantArgs

METHODS = ("compressed-tensors", "compressed_tensors")
CACHE = ("k_scale", "v_scale", "k_zero_point", "v_zero_point", "q_scale", "q_zero_point")


class Compressed:
    """Integers and float8 per tensor, channel or group; what else there is, is refused by name."""

    @staticmethod
    def reads(folder: Path) -> bool:
        return method(folder) in METHODS

    @staticmethod
    def open(folder: Path, dtype: torch.dtype) -> Opened:
        said = read_json(folder / "config.json")["quantization_config"]
        groups = list((said.get("config_groups") or {}).values())
        made = Converted()
        for name, own in modules_in(folder).items():
            kept = {key: tensor for key, tensor in own.items() if key not in CACHE}
            if "weight_scale" not in kept:
                made.leave(name, kept)
                continue
            group = _group_of(name, groups)
            form = formats.get(group.get("format") or said.get("format"))
            if not isinstance(form, Plain | Packed) or "weight_g_idx" in kept:
                raise WorkbenchError(
                    f"{name} is stored as {group.get('format') or said.get('format')!r}, which is "
                    "not read; allowed: int-, float-, naive- and pack-quantized, in order of inputs"
                )
            weights = _args(name, group.get("weights"))
            inputs = _args(name, group.get("input_activations"))
            if weights is None:
                raise WorkbenchError(f"{name} has scales, but config.json quantizes it not")
            made.add(
                name,
                _numbers(form.decode(kept, weights.qtype.bits), weights, inputs),
                weights,
                inputs,
            )
        note = "The cache of keys and values stays in float." if said.get("kv_cache_scheme") else ""
        return made.load(folder, dtype, note)


def _numbers(
    tensors: dict[str, Tensor], weights: QuantArgs, inputs: QuantArgs | None
) -> dict[str, Tensor]:
    """As our modules hold them: numbers in float32, and none that the scheme has no use for."""
    useless = set()
    if weights.symmetric:
        useless.add("weight_zero_point")
    if inputs is None or inputs.dynamic:
        useless.update(("input_scale", "input_zero_point"))
    elif inputs.symmetric:
        useless.add("input_zero_point")
    made = {key: tensor for key, tensor in tensors.items() if key not in useless}
    for key in ("weight_scale", "input_scale"):
        if key in made:
            made[key] = made[key].float()
    singles = ["input_scale", "input_zero_point"]
    if weights.granularity == "tensor":
        singles += ["weight_scale", "weight_zero_point"]
    for key in singles:
        if key in made:
            made[key] = made[key].reshape(1)
    if weights.granularity == "channel":
        made["weight_scale"] = made["weight_scale"].reshape(-1, 1)
    return made


def _group_of(name: str, groups: list[dict[str, Any]]) -> dict[str, Any]:
    """The group that has the module's name among its targets, else its pattern, else its class."""
    matches = (
        lambda target: target == name,
        lambda target: target.startswith("re:") and re.match(target[3:], name),
        lambda target: target == "Linear",
    )
    for match in matches:
        for group in groups:
            if any(match(target) for target in group.get("targets", ())):
                return group
    raise WorkbenchError(f"{name} has scales, but no group in config.json names it")


def _args(name: str, said: dict[str, Any] | None) -> QuantArgs | None:
    if said is None:
        return None
    bits, kind = said.get("num_bits"), said.get("type", "int")
    dtype = "float8_e4m3fn" if (kind, bits) == ("float", 8) else f"{kind}{bits}"
    strategy: Any = said.get("strategy") or "tensor"
    try:
        return QuantArgs(
            dtype=dtype,
            granularity=strategy,
            group_size=said.get("group_size") if strategy == "group" else None,
            symmetric=said.get("symmetric", True),
            dynamic=bool(said.get("dynamic")),
        )
    except ValueError as error:
        raise WorkbenchError(
            f"{name} is quantized to {dtype} per {strategy}, which is not read: "
            f"{' '.join(str(error).split())}"
        ) from error
