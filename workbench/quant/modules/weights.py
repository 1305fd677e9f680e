"""Weights of a quantized module: float ones that are rounded anew, or integers that stay."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from workbench.ops.packing import pack, packed_words
from workbench.ops.weights import by_row
from workbench.quant.args import QuantArgs
from workbench.quant.calibration import active_calibration
from workbench.quant.optimizers import Optimizer
from workbench.quant.rounding import from_grid, to_grid, to_storage
from workbench.quant.tensor import Layout, QTensor

ENDS = ("", "_packed", "_shape", "_scale", "_zero_point")  # of the buffers of a frozen weight


class QWeights(nn.Module):
    """The half of a quantized module that deals with weights; `QModule` says what it holds."""

    weight_names: tuple[str, ...] = ("weight",)
    lead: ClassVar[int] = 1  # leading dimensions of a weight whose every entry has its own numbers
    transposed: bool = False  # whether weights are [..., in, out]

    weights: QuantArgs | None
    optimizer: Optimizer
    like: Tensor
    shapes: dict[str, torch.Size]
    frozen: bool
    _numbers: dict[str, tuple[tuple[int, int], Tensor, Tensor | None]]

    @classmethod
    def names_in(cls, module: nn.Module) -> tuple[str, ...]:
        """The names of the weights of the float `module`."""
        del module
        return cls.weight_names

    def oriented(self, weight: Tensor) -> Tensor:
        """The weight as a stack of matrices [..., out, in]."""
        return weight.transpose(-1, -2) if self.transposed else weight

    def args_of(self, name: str) -> QuantArgs:
        """The arguments of the weight `name`, its group size settled."""
        assert self.weights is not None
        return self.weights.resolved(name, self.shapes[name][self.lead :].numel())

    def grouped(self, name: str, matrix: Tensor) -> Tensor:
        """View the matrix [*lead, *rest] as [*lead, groups, size], or [1, all] for one scale."""
        args = self.args_of(name)
        if args.granularity == "tensor":
            return matrix.reshape(1, -1)
        flat = matrix.flatten(self.lead)
        return flat.unflatten(-1, (-1, args.group_size or max(flat.shape[-1], 1)))

    def numbers(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Scale and zero point of the float weight `name`, [*lead, groups] or [1]."""
        learned = self._parameters.get(f"{name}_scale")  # in quantization-aware training
        if learned is not None:
            return learned, self._buffers[f"{name}_zero_point"]
        parameter = self._parameters[name]
        assert parameter is not None
        # Tensors made in inference mode count no versions.
        version = (id(parameter), -1 if parameter.is_inference() else parameter._version)
        kept = self._numbers.get(name)
        if kept is None or kept[0] != version or parameter.is_inference():
            blocks = self.grouped(name, self.oriented(parameter.detach()))
            scale, point = self.optimizer(blocks.flatten(0, -2), self.args_of(name))
            shape = blocks.shape[:-1]
            kept = (version, scale.view(shape), None if point is None else point.view(shape))
            self._numbers[name] = kept
        return kept[1], kept[2]

    def fake_quantize_weight(self, name: str = "weight") -> Tensor:
        """The float weight as it will be after freezing, with a straight-through gradient."""
        parameter = self._parameters[name]
        assert parameter is not None
        matrix = self.oriented(parameter)
        scale, point = (n if n is None else n.unsqueeze(-1) for n in self.numbers(name))
        assert scale is not None
        blocks = self.grouped(name, matrix.float())
        rounded = from_grid(to_grid(blocks, scale, point, self.args_of(name).qtype), scale, point)
        return self.oriented(rounded.reshape(matrix.shape).to(parameter.dtype))

    def stored(self, name: str = "weight") -> QTensor:
        """The view of the frozen weight `name`."""
        data = self._buffers.get("panels")
        if data is None:
            data = self._buffers.get(name)
        if data is None:
            data = self._buffers[f"{name}_packed"]
        scale, point = self._buffers[f"{name}_scale"], self._buffers.get(f"{name}_zero_point")
        assert data is not None
        assert scale is not None
        bits, rows = self.args_of(name).qtype.bits, self.shapes[name][0]
        layout = Layout(self.shapes[name], bits, self.transposed, self.like.dtype)
        if data.dtype == torch.uint8:  # in panels, and so are its numbers
            scale, point = by_row(scale, rows), None if point is None else by_row(point, rows)
        return QTensor(data, scale, point, layout)

    def weight_now(self, name: str = "weight") -> Tensor:
        """The float weight to compute with: as it is in calibration, rounded otherwise."""
        if self.frozen:
            return self.stored(name).dequantize()
        parameter = self._parameters[name]
        assert parameter is not None
        if active_calibration(self) is not None:
            self.called = True
            return parameter
        return parameter if self.weights is None else self.fake_quantize_weight(name)

    def _learn(self, name: str, scale: Tensor, point: Tensor | None) -> None:
        self._buffers.pop(f"{name}_scale", None)
        self._parameters[f"{name}_scale"] = nn.Parameter(scale.detach().clone())
        self._buffers[f"{name}_zero_point"] = None if point is None else point.clone()

    def _freeze_weight(self, name: str) -> None:
        scale, point = self.numbers(name)
        kind = self.args_of(name).qtype
        matrix = self.oriented(self._parameters.pop(name).detach())  # type: ignore[union-attr]
        self._parameters.pop(f"{name}_scale", None)
        blocks = self.grouped(name, matrix)
        values = to_storage(blocks, scale.detach(), point, kind).reshape(matrix.shape)
        if kind.packed:
            self.register_buffer(f"{name}_packed", pack(values.flatten(self.lead), kind.bits))
            self.register_buffer(f"{name}_shape", torch.tensor(matrix.shape))
        else:
            self.register_buffer(name, values.contiguous())
        self.register_buffer(f"{name}_scale", scale.detach().contiguous())
        if point is not None:
            whole = torch.equal(point, point.round())
            self.register_buffer(f"{name}_zero_point", point.to(torch.int8) if whole else point)

    def _empty_weight(self, name: str, args: QuantArgs, shape: torch.Size) -> None:
        lead, columns = shape[: self.lead], shape[self.lead :].numel()
        if args.qtype.packed:
            words = torch.empty(*lead, packed_words(columns, args.qtype.bits), dtype=torch.int32)
            self.register_buffer(f"{name}_packed", words)
            self.register_buffer(f"{name}_shape", torch.empty(len(shape), dtype=torch.int64))
        else:
            self.register_buffer(name, torch.empty(shape, dtype=args.qtype.storage))
        groups = columns // args.group_size if args.group_size else 1
        per = torch.Size([1]) if args.granularity == "tensor" else torch.Size([*lead, groups])
        self.register_buffer(f"{name}_scale", torch.empty(per))
        if not args.symmetric:
            self.register_buffer(f"{name}_zero_point", torch.empty(per, dtype=torch.int8))
