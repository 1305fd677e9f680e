"""What readers of other libraries' checkpoints share: their tensors become ours, then load."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.models.checkpoint import Checkpoint
from workbench.models.formats import METHOD, Format
from workbench.models.manifest import Manifest, by_module
from workbench.models.readers.base import (
    Opened,
    float_config,
    has_tokenizer,
    model_class,
    refuse_misfits,
)
from workbench.ops.packing import pack
from workbench.quant import QuantArgs
from workbench.quant.dtypes import dtype_name

GROUPED = ("qweight", "qzeros", "scales", "g_idx")  # what GPTQ and AWQ store of a layer


@dataclass
class Converted:
    """Tensors as our modules hold them, and the arguments of those that are quantized."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(
        self,
        name: str,
        numbers: dict[str, Tensor],
        weights: QuantArgs | None,
        activations: QuantArgs | None = None,
        outputs: QuantArgs | None = None,
    ) -> None:
        """Take the module `name`, which is quantized like that."""
        self.tensors.update({f"{name}.{key}": t.contiguous() for key, t in numbers.items()})
        self.entries[name] = {
            "weights": weights and weights.model_dump(),
            "activations": activations and activations.model_dump(),
            **({"outputs": outputs.model_dump()} if outputs else {}),
            "format": Format.name,
        }

    def take(self, name: str, rest: dict[str, Tensor], layer: "GroupedLinear", bits: int) -> None:
        """Take the linear layer `name`; `rest` are its other tensors, such as the bias."""
        values, scale, group_of = layer.values, layer.scale, layer.group_of
        (rows, columns), groups = values.shape, scale.shape[1]
        zeros = layer.zeros[:rows]  # words are full, the last with zeros of no output
        size, half = columns // groups, 2 ** (bits - 1)
        order = torch.arange(columns) // size
        if group_of is not None and not torch.equal(group_of.long(), order):
            where = group_of.long()
            weight = (values - zeros[:, where]).float() * scale[:, where]
            self.leave(name, {**rest, "weight": weight})
            return
        points = zero_points((zeros - half).float())
        numbers = {"weight_scale": scale}
        if points is not None:
            numbers["weight_zero_point"] = points
        signed = (values - half).to(torch.int8)
        if bits == 8:
            numbers["weight"] = signed
        else:
            numbers["weight_packed"] = pack(signed, bits)
            numbers["weight_shape"] = torch.tensor(values.shape)
        args = QuantArgs(
            dtype=f"int{bits}", granularity="group", group_size=size, symmetric=points is None
        )
        self.add(name, {**rest, **numbers}, args)

    def leave(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Take tensors of the module `name` as they are."""
        self.tensors.update({f"{name}.{key}" if name else key: t for key, t in tensors.items()})

    def load(self, folder: Path, dtype: torch.dtype, note: str) -> Opened:
        """Make the model that config.json in `folder` describes, floats as `dtype`."""
        from transformers import AutoTokenizer

        config = float_config(folder)
        if self.entries:
            for entry in self.entries.values():
                entry["dtype"] = dtype_name(dtype)
            manifest = Manifest(dtype=dtype_name(dtype), quantization_map=self.entries)
            config.quantization_config = {
                "quant_method": METHOD,
                "manifest": manifest.model_dump(),
                "outlines": {key: _outline(key, tensor) for key, tensor in self.tensors.items()},
            }
        for key, tensor in self.tensors.items():
            owner, _, last = key.rpartition(".")
            if tensor.is_floating_point() and (owner not in self.entries or last == "bias"):
                self.tensors[key] = tensor.to(dtype)
        found, kind = model_class(config, exact=True)
        model, info = found.from_pretrained(
            None,
            config=config,
            state_dict=self.tensors,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        refuse_misfits(folder.name, info, exact=False)
        tokenizer = AutoTokenizer.from_pretrained(folder) if has_tokenizer(folder) else None
        return Opened(model.eval(), tokenizer, kind, note)


@dataclass(frozen=True)
class GroupedLinear:
    """A linear layer in groups: unsigned `values` [out, in]; `zeros` and `scale` [out, groups].

    `group_of` [in] tells which group an input is in; where that is not by order, the weight comes
    as floats.
    """

    values: Tensor
    zeros: Tensor
    scale: Tensor
    group_of: Tensor | None = None


def open_grouped(
    folder: Path, dtype: torch.dtype, bits: int, read: Callable[[dict[str, Tensor]], GroupedLinear]
) -> Opened:
    """Load a checkpoint whose quantized layers have a `qweight`, which `read` understands."""
    made = Converted()
    for name, own in modules_in(folder).items():
        if "qweight" in own:
            rest = {key: tensor for key, tensor in own.items() if key not in GROUPED}
            made.take(name, rest, read(own), bits)
        else:
            made.leave(name, own)
    return made.load(folder, dtype, "")


def _outline(key: str, tensor: Tensor) -> Tensor:
    return tensor if key.endswith("weight_shape") else tensor.to("meta")


def weight_shapes(folder: Path) -> dict[str, torch.Size]:
    """The shapes of the weights of the model that config.json describes, by module."""
    config = float_config(folder)
    with torch.device("meta"):
        model = model_class(config, exact=True)[0]._from_config(config)
    return {
        name.removesuffix(".weight"): parameter.shape
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name.endswith(".weight")
    }


def modules_in(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of the checkpoint in `folder`, by module."""
    return by_module(Checkpoint.of(folder).tensors())


def zero_points(points: Tensor) -> Tensor | None:
    """Zero points as our modules hold them: int8 where they are whole and fit, None where all 0."""
    if not points.any():
        return None
    whole = torch.equal(points, points.round()) and points.abs().max() <= 127
    return points.to(torch.int8 if whole else torch.float32)


def packed_fields(words: Tensor, bits: int) -> Tensor:
    """The unsigned values in int32 words [..., n], lowest bits first, as [..., n, 32 / bits]."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    return (words.unsqueeze(-1) >> shifts) & (2**bits - 1)
