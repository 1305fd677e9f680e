"""What every quantized module shares: weights, freezing and the way back."""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from workbench.ops.packing import pack, packed_words
from workbench.ops.weights import by_row
from workbench.quant.args import QuantArgs
from workbench.quant.calibration import active_calibration
from workbench.quant.modules.activations import QActivations
from workbench.quant.modules.panels import NUMBERS, QPanels
from workbench.quant.modules.registry import class_name, quantized_class, registry
from workbench.quant.modules.twin import twin_of, unparametrized
from workbench.quant.optimizers import Optimizer, default_optimizer
from workbench.quant.rounding import from_grid, to_grid, to_storage
from workbench.quant.tensor import Layout, QTensor

ENDS = ("", "_packed", "_shape", "_scale", "_zero_point")  # of the buffers of a frozen weight


class QModule(QActivations, QPanels):
    """A module with quantized weights and, if asked, quantized inputs; a mixin of the float class.

    Until it is frozen it holds its float weights, quantizes them anew on each forward and passes
    gradients straight through. Frozen, it holds plain buffers under the names they have on disk,
    here for a weight named `weight`, a matrix [out, in] in `groups` groups:

    * `weight`            int8 or float8, in its own shape; or, below 8 bits,
    * `weight_packed`     int32 [out, words] (`workbench.ops.packing`), with `weight_shape` int64
    * `weight_scale`      float32 [out, groups], or [1] for all
    * `weight_zero_point` int8 or float32 in the shape of the scale, where affine

    and those of `QActivations`; `QPanels` says how they lie where the native kernels read them. The
    attribute `weight` is then a `QTensor` view of them. Subclasses say which attributes are weights
    and what forward does with them.
    """

    weight_names: tuple[str, ...] = ("weight",)
    lead: ClassVar[int] = 1  # leading dimensions of a weight whose every entry has its own numbers
    transposed: bool = False  # whether weights are [..., in, out]

    float_class: type[nn.Module]
    weights: QuantArgs | None
    like: Tensor

    @classmethod
    def from_float(
        cls,
        module: nn.Module,
        weights: QuantArgs | None,
        activations: QuantArgs | None,
        optimizer: Optimizer | None = None,
        name: str = "",
    ) -> Self:
        """Make the unfrozen quantized twin of `module`, sharing its parameters.

        A parametrized weight (weight norm, say) becomes a plain one of the same value.
        Raises WorkbenchError, naming `name`, where the arguments do not fit the module.
        """
        module = unparametrized(module)
        made: Self = twin_of(module, quantized_class(cls, type(module)))  # type: ignore[arg-type, assignment]
        made.float_class = type(module)
        made._setup(weights, activations, optimizer, name or type(module).__name__)
        return made

    def _setup(
        self,
        weights: QuantArgs | None,
        activations: QuantArgs | None,
        optimizer: Optimizer | None,
        name: str,
    ) -> None:
        self.weight_names = self.names_in(self)
        self._setup_activations(activations)
        self.frozen = self.read = self.called = False
        self.op = self.op_reason = ""
        self._numbers: dict[str, tuple[tuple[int, int], Tensor, Tensor | None]] = {}
        shapes = {n: self.oriented(self._parameters[n]).shape for n in self.weight_names}  # type: ignore[arg-type]
        self.shapes: dict[str, torch.Size] = shapes
        self.weights = weights
        if weights is not None:
            columns = {shape[self.lead :].numel() for shape in shapes.values()}
            resolved = [weights.resolved(name, count) for count in sorted(columns)]
            # Experts may have inputs of several widths; then each weight finds its own groups.
            self.weights = resolved[0] if len(set(resolved)) == 1 else weights
            self.optimizer = optimizer or default_optimizer(weights)
            self.optimizer.check(weights)
            like = self._parameters[self.weight_names[0]]
            assert like is not None
            # Moves and changes dtype with the module; tells what float dtype it works in.
            self.register_buffer("like", like.detach().new_empty(0), persistent=False)
        self.register_buffer("multiplier", None, persistent=False)
        self.register_buffer("panels", None, persistent=False)
        self.arithmetic: str | None = None  # the op, where ops that round otherwise would do
        self.pinned: str | None = None  # the implementation to prefer

    # Weights

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

    # Training and freezing

    def learn_scales(self) -> list[nn.Parameter]:
        """Make scales parameters, where they are now, and zero points constants; return them."""
        for name in self.weight_names if self.weights is not None else ():
            self._learn(name, *self.numbers(name))
        if self.static:
            found = self._static_numbers()
            assert found is not None
            self._learn(self.side, *found)
        scales = (f"{name}_scale" for name in (*self.weight_names, self.side))
        return [p for s in scales if (p := self._parameters.get(s)) is not None]

    def _learn(self, name: str, scale: Tensor, point: Tensor | None) -> None:
        self._buffers.pop(f"{name}_scale", None)
        self._parameters[f"{name}_scale"] = nn.Parameter(scale.detach().clone())
        self._buffers[f"{name}_zero_point"] = None if point is None else point.clone()

    @torch.no_grad()
    def freeze(self) -> None:
        """Replace the float weights by integers; the module computes with them from now on."""
        if self.frozen:
            return
        self._freeze_activations()
        for name in self.weight_names if self.weights is not None else ():
            self._freeze_weight(name)
        self.become_frozen()

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

    def become_frozen(self) -> None:
        """Switch to the frozen forward; the buffers are in place."""
        self.observer = None
        self._numbers.clear()
        self.frozen = True
        self.prepare()

    @property
    def slot_shape(self) -> tuple[int] | None:
        """The shape of the input slot, for modules that have one."""
        return None

    def make_empty(self) -> None:
        """Hold buffers of the right shapes on the meta device, to be filled by loading."""
        with torch.device("meta"):
            for name in self.weight_names if self.weights is not None else ():
                self._parameters.pop(name)
                self._empty_weight(name, self.args_of(name), self.shapes[name])
            self._empty_activations()
        self.observer = None
        self.frozen = True

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

    def prepare(self) -> None:
        """Derive what the frozen forward needs from the buffers; called by freezing and loading."""
        self.op = "torch, on the dequantized weight"
        self.op_reason = f"no kernel of ours for {type(self).__name__}"

    def to_float(self) -> nn.Module:
        """The float module again: its own weights before freezing, the dequantized ones after."""
        weights: dict[str, nn.Parameter | None] = {}
        if self.frozen and self.weights is not None:
            for name in self.weight_names:
                found = self.stored(name).dequantize()
                weights[name] = nn.Parameter(found, requires_grad=False)
        made = twin_of(self, self.float_class)
        for key in _OWN & vars(made).keys():
            delattr(made, key)
        for name in (*self.quantized_buffers(), "like"):
            made._buffers.pop(name, None)
        made._parameters.update(weights)
        return made

    def quantized_buffers(self) -> list[str]:
        """Names of the buffers that quantization added, in use or not."""
        of_weights = [f"{name}{end}" for name in self.weight_names for end in ENDS]
        of_activations = [f"{self.side}_scale", f"{self.side}_zero_point"]
        return [*of_weights, *of_activations, "input_transform", "multiplier", "panels"]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move as any module does, but convert no number: rounding one scale changes every value.

        (float8 counts as a floating-point type to torch, so data too would be converted.)
        """
        buffers = self._buffers
        before = {n: b for n in self.quantized_buffers() if (b := buffers.get(n)) is not None}
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = buffers[name]
            if new is not None and new.dtype != old.dtype:
                buffers[name] = old.to(new.device)
        if self.frozen:
            self.prepare()
        return self

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("shapes", ()):
            if self.frozen and self.weights is not None:
                return self.stored(name)
            if active_calibration(self) is not None:
                self.read = True
            elif self.read and not self.called and name in self._parameters:
                return self.fake_quantize_weight(name)  # whoever reads it multiplies by it
        found = super().__getattr__(name)
        if (
            name in NUMBERS
            and isinstance(found, Tensor)
            and self._buffers.get("panels") is not None
        ):
            return by_row(found, self.shapes["weight"][0])
        return found

    def extra_repr(self) -> str:
        def told(args: QuantArgs | None) -> str:
            return "float" if args is None else f"{args.dtype} per {args.granularity}"

        state = f"frozen, {self.op}" if self.frozen else "not frozen"
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())
        return f"{shapes}: {told(self.weights)}, {self.side}s {told(self.activations)}, {state}"

    @classmethod
    def bases_for(cls, float_class: type[nn.Module]) -> tuple[type, ...]:
        """What the class of quantized `float_class` modules derives from.

        A subclass of a registered class comes first, so that what it adds before and after
        `super().forward` (a factor, say) keeps working.
        """
        return (cls,) if registry.get(class_name(float_class)) is cls else (float_class, cls)


# What from_float adds to the dictionary of a module and to_float leaves out.
_OWN = frozenset(
    {"weights", "activations", "optimizer", "observer", "frozen", "read", "called", "op"}
    | {"float_class", "op_reason", "shapes", "_numbers", "weight_names", "transposed"}
    | {"_run", "_bits", "arithmetic", "integer_inputs", "pinned"}
)
