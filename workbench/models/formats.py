"""How the numbers of one frozen module lie on disk: compressed-tensors' formats, and ours.

A format is asked in order whether it can say what a module holds. `encode` and `decode` turn the
tensors of one module, by local name, from memory to disk and back.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.ops.packing import pack, unpack
from workbench.quant import QModule, QuantArgs

Tensors = dict[str, Tensor]
METHOD = "workbench"  # of quantization, to transformers


class Format:
    """Our own: on disk as in memory, whatever the module."""

    name = "workbench"

    def says(self, module: QModule) -> bool:
        """Whether this format can describe the frozen `module`."""
        del module
        return True

    def encode(self, tensors: Tensors, bits: int) -> Tensors:
        """From memory to disk, for weights of `bits` bits."""
        del bits
        return tensors

    def decode(self, tensors: Tensors, bits: int) -> Tensors:
        """From disk to memory, for weights of `bits` bits."""
        del bits
        return tensors


class Plain(Format):
    """compressed-tensors with one byte a weight, in its own shape."""

    def __init__(self, name: str, can: Callable[[QuantArgs, QuantArgs | None], bool]) -> None:
        self.name = name
        self.can = can

    def says(self, module: QModule) -> bool:
        w, a = module.weights, module.activations
        return (
            isinstance(module, nn.Linear | nn.Embedding)
            and w is not None
            and module.input_transform is None
            and module.outputs is None
            and _known(w, module._buffers.get("weight_zero_point"))
            and (a is None or _known(a, module._buffers.get("input_zero_point")))
            and self.can(w, a)
        )

    def encode(self, tensors: Tensors, bits: int) -> Tensors:
        del bits
        return _each(tensors, "input_zero_point", lambda point: point.to(torch.int8))

    def decode(self, tensors: Tensors, bits: int) -> Tensors:
        del bits
        return _each(tensors, "input_zero_point", Tensor.float)


class Packed(Plain):
    """compressed-tensors with weights in int32 words, and their zero points packed downwards."""

    def encode(self, tensors: Tensors, bits: int) -> Tensors:
        made = super().encode(tensors, bits)
        if "weight" in made:  # int8, which is not packed in memory
            weight = made.pop("weight")
            made["weight_packed"] = pack(weight, bits)
            made["weight_shape"] = torch.tensor(weight.shape)
        return _each(made, "weight_zero_point", lambda point: pack(point.t(), bits).t())

    def decode(self, tensors: Tensors, bits: int) -> Tensors:
        made = super().decode(tensors, bits)
        if not made.keys() >= {"weight_packed", "weight_shape"}:
            return made
        shape = made["weight_shape"].tolist()
        if len(shape) != 2:
            raise WorkbenchError(f"the checkpoint says that a matrix has the shape {shape}")
        rows, columns = shape
        if bits == 8:
            made["weight"] = unpack(made.pop("weight_packed"), bits, columns)
            made.pop("weight_shape")
        return _each(
            made, "weight_zero_point", lambda point: unpack(_turned(point), bits, rows).t()
        )


def _each(tensors: Tensors, name: str, change: Callable[[Tensor], Tensor]) -> Tensors:
    """The same tensors, the one called `name` changed."""
    made = dict(tensors)
    if name in made:
        made[name] = change(made[name]).contiguous()
    return made


def _turned(words: Tensor) -> Tensor:
    """The transpose, laid out anew: to torch, a column of one word is contiguous as it is."""
    return words.t().clone(memory_format=torch.contiguous_format)


def _known(args: QuantArgs, zero_point: Tensor | None) -> bool:
    """Whether compressed-tensors has the type (e4m3fn of the float8s) and such a zero point."""
    kind = args.qtype
    if kind.is_float:
        return kind.storage is torch.float8_e4m3fn
    if zero_point is None or not zero_point.numel():
        return True
    point = zero_point.float()
    whole = torch.equal(point, point.round())
    return whole and kind.qmin <= point.min() and point.max() <= kind.qmax  # type: ignore[return-value]


def _integers(w: QuantArgs, a: QuantArgs | None) -> bool:
    return w.dtype == "int8" and a is not None and not a.qtype.is_float


def _floats(w: QuantArgs, a: QuantArgs | None) -> bool:
    return w.qtype.is_float and a is not None


def _words(w: QuantArgs, a: QuantArgs | None) -> bool:
    integers = not w.qtype.is_float and (a is None or not a.qtype.is_float)
    return integers and (w.symmetric or w.granularity != "tensor")


formats: dict[str, Format] = {
    known.name: known
    for known in (
        Plain("int-quantized", _integers),
        Plain("float-quantized", _floats),
        Plain("naive-quantized", lambda w, a: w.qtype.is_float and a is None),
        Packed("pack-quantized", _words),
        Format(),
    )
}


def format_of(module: QModule) -> Format:
    """The first format that can say what the frozen `module` holds."""
    return next(known for known in formats.values() if known.says(module))


def scheme(args: QuantArgs | None) -> dict[str, Any] | None:
    """The arguments in compressed-tensors' words."""
    if args is None:
        return None
    return {
        "num_bits": args.qtype.bits,
        "type": "float" if args.qtype.is_float else "int",
        "symmetric": args.symmetric,
        "strategy": args.granularity,
        "group_size": args.group_size,
        "dynamic": args.dynamic,
    }


def quantization_config(modules: dict[str, QModule], floats: list[str]) -> dict[str, Any]:
    """What config.json says of the frozen `modules`, and of the linear layers left in float.

    One group for each distinct scheme, with exact names. The method is "compressed-tensors" where
    each module can be said in its formats, else "workbench".
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, module in modules.items():
        sides = {"input": "input_activations", "output": "output_activations"}
        said = {
            "format": format_of(module).name,
            "weights": scheme(module.weights),
            "input_activations": None,
            "output_activations": None,
            sides[module.side]: scheme(module.activations),
        }
        groups.setdefault(str(said), {"targets": [], **said})["targets"].append(name)
    names = {group["format"] for group in groups.values()}
    return {
        "quant_method": METHOD if Format.name in names else "compressed-tensors",
        "format": names.pop() if len(names) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "ignore": floats,
        "config_groups": {f"group_{i}": group for i, group in enumerate(groups.values())},
    }
