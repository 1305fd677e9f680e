"""What every quantized module is: made of a float one, frozen, moved, and made float again."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from workbench.ops.weights import by_row
from workbench.quant.args import QuantArgs
from workbench.quant.calibration import active_calibration
from workbench.quant.modules.activations import QActivations
from workbench.quant.modules.panels import NUMBERS, QPanels
from workbench.quant.modules.registry import class_name, quantized_class, registry
from workbench.quant.modules.twin import twin_of, unparametrized
from workbench.quant.modules.weights import ENDS, QWeights
from workbench.quant.optimizers import Optimizer, default_optimizer


class QModule(QActivations, QWeights, QPanels):
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

    float_class: type[nn.Module]

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
        self._numbers = {}
        shapes = {n: self.oriented(self._parameters[n]).shape for n in self.weight_names}  # type: ignore[arg-type]
        self.shapes = shapes
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

    @torch.no_grad()
    def freeze(self) -> None:
        """Replace the float weights by integers; the module computes with them from now on."""
        if self.frozen:
            return
        self._freeze_activations()
        for name in self.weight_names if self.weights is not None else ():
            self._freeze_weight(name)
        self.become_frozen()

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
            if name not in self.weight_names:
                made._parameters.pop(name, None)  # a scale that was learned
        made._parameters.update(weights)
        return made

    def quantized_buffers(self) -> list[str]:
        """Names of the buffers that quantization added, in use or not."""
        of_weights = [f"{name}{end}" for name in self.weight_names for end in ENDS]
        of_activations = [f"{self.side}_scale", f"{self.side}_zero_point"]
        others = ("output_scale", "input_transform", "multiplier", "panels")
        return list(dict.fromkeys((*of_weights, *of_activations, *others)))

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
    {"weights", "activations", "outputs", "optimizer", "observer", "frozen", "read", "called", "op"}
    | {"float_class", "op_reason", "shapes", "_numbers", "weight_names", "transposed"}
    | {"_run", "_bits", "arithmetic", "integer_inputs", "pinned"}
    | {"left_in_float"}
)
