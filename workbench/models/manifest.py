"""What a saved checkpoint says of itself beyond the transformers config."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.formats import format_of, formats
from workbench.quant import QModule, QuantArgs, quantization_map
from workbench.quant.dtypes import dtype_name, torch_dtype
from workbench.quant.quantize import quantized_modules

MANIFEST = "workbench.json"
FORMAT_VERSION = 2


class Manifest(BaseModel):
    """Format version, dtypes in memory, and how each module is quantized and stored.

    `dtype` is what the model works in; `dtypes` are those of the tensors that lie on disk in
    another than in memory. An entry of `quantization_map` says, beside the arguments, the "format"
    of its tensors (`workbench.models.formats`) and the float "dtype" its module works in.
    """

    model_config = ConfigDict(extra="forbid")

    format_version: int = FORMAT_VERSION
    dtype: str
    dtypes: dict[str, str] = {}
    note: str = ""
    quantization_map: dict[str, dict[str, Any]] = {}

    @classmethod
    def of(cls, model: nn.Module, note: str = "") -> Self:
        """Describe the frozen `model`; raises WorkbenchError where it is quantized, not frozen."""
        modules = frozen_modules(model)
        entries = quantization_map(model)
        for name, module in modules.items():
            entries[name]["format"] = format_of(module).name
            if module.weights is not None:
                entries[name]["dtype"] = dtype_name(module.like.dtype)
        floats = [p.dtype for p in model.parameters() if p.is_floating_point()]
        floats += [m.like.dtype for m in modules.values() if m.weights is not None]
        main = dtype_name((floats or [torch.float32])[0])
        return cls(dtype=main, note=note, quantization_map=entries)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the manifest of a checkpoint, from a file of its own or from config.json.

        None if there is none; raises WorkbenchError if it is unusable.
        """
        path = folder / MANIFEST
        if not path.is_file():
            path = folder / "config.json"
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if path.name != MANIFEST:
                values = (values.get("quantization_config") or {}).get("manifest")
            return None if values is None else cls.parse(values, str(folder))
        except WorkbenchError:
            raise
        except (ValueError, AttributeError) as error:
            raise WorkbenchError(f"{path} is damaged: {error}") from error

    @classmethod
    def parse(cls, values: dict[str, Any], where: str) -> Self:
        """Make a manifest of plain values; raises WorkbenchError for another version or damage."""
        version = values.get("format_version") if isinstance(values, dict) else None
        if not isinstance(version, int):
            raise WorkbenchError(f"the manifest of {where} is damaged: it has no format_version")
        if version > FORMAT_VERSION:
            raise WorkbenchError(
                f"{where} was written in format {version}; this version reads format "
                f"{FORMAT_VERSION}: install a newer quantization-workbench"
            )
        if version < FORMAT_VERSION:
            raise WorkbenchError(
                f"{where} was written in format {version}, before the first release; this "
                f"version reads format {FORMAT_VERSION}: quantize the model again"
            )
        try:
            made = cls.model_validate(values)
        except ValidationError as error:
            raise WorkbenchError(f"the manifest of {where} is damaged: {error}") from error
        for name, entry in made.quantization_map.items():
            if entry.get("format") not in formats:
                raise WorkbenchError(
                    f"{where} names the format {entry.get('format')!r} for {name}; allowed: "
                    f"{', '.join(formats)}"
                )
            try:
                for key in ("weights", "activations", "outputs"):
                    _args(entry, key)
            except ValidationError as error:
                raise WorkbenchError(
                    f"the map of {name} cannot be read: {' '.join(str(error).split())}"
                ) from error
        return made

    def dtype_of(self, key: str, stored: torch.dtype) -> torch.dtype:
        """The dtype in memory of the tensor `key`, which may be wider than the one on disk."""
        return torch_dtype(self.dtypes[key]) if key in self.dtypes else stored

    def decoded(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All tensors as they are in memory, from those on disk."""
        made = {}
        for owner, own in by_module(tensors).items():
            entry = self.quantization_map.get(owner)
            for last, tensor in (own if entry is None else decoded(entry, own)).items():
                key = f"{owner}.{last}" if owner else last
                made[key] = tensor.to(self.dtype_of(key, tensor.dtype))
        return made


def decoded(entry: Mapping[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one module in memory, from its entry in the map and its tensors on disk."""
    return formats[entry["format"]].decode(tensors, _bits(entry))


def encoded(entry: Mapping[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `decoded`."""
    return formats[entry["format"]].encode(tensors, _bits(entry))


def _bits(entry: Mapping[str, Any]) -> int:
    args = _args(entry, "weights")
    return args.qtype.bits if args else 0


def _args(entry: Mapping[str, Any], key: str) -> QuantArgs | None:
    return QuantArgs.model_validate(entry[key]) if entry.get(key) else None


def by_module(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by the name of their module and their own."""
    made: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        owner, _, last = key.rpartition(".")
        made.setdefault(owner, {})[last] = tensor
    return made


def frozen_modules(model: nn.Module) -> dict[str, QModule]:
    """The quantized modules by name; raises WorkbenchError where one is not frozen."""
    modules = dict(quantized_modules(model))
    unfrozen = next((name for name, module in modules.items() if not module.frozen), None)
    if unfrozen is not None:
        raise WorkbenchError(f"{unfrozen} is quantized but not frozen: freeze the model, then save")
    return modules
