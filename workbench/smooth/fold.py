"""Put a scale on the channels of an input, dividing what makes it and multiplying what reads it."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from workbench.graph import InputGroup, Matrix, along
from workbench.observe import Entry
from workbench.quant import transformed_class
from workbench.quant.quantize import replace_module
from workbench.smooth.scales import smoothing_scales


class Change:
    """Replaced parameters and modules of a model, which `undo` puts back."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._undo: list[Callable[[], Any]] = []

    def parameter(self, module: str, name: str, value: Tensor) -> None:
        """Replace a parameter, never written to: other models may share it."""
        owner = self.model.get_submodule(module)
        old = owner._parameters[name]
        assert old is not None
        new = nn.Parameter(value.detach().to(old.dtype), requires_grad=old.requires_grad)
        setattr(owner, name, new)
        self._undo.append(lambda: setattr(owner, name, old))

    def module(self, name: str, new: nn.Module) -> None:
        """Replace a module."""
        old = self.model.get_submodule(name)
        replace_module(self.model, name, new)
        self._undo.append(lambda: replace_module(self.model, name, old))

    def note(self, module: str, name: str, value: Any) -> None:
        """Give a module an attribute for others to read."""
        owner = self.model.get_submodule(module)
        old = owner.__dict__.get(name)
        owner.__dict__[name] = value
        self._undo.append(lambda: owner.__dict__.update({name: old}))

    def undo(self) -> None:
        """Put back everything, last change first."""
        while self._undo:
            self._undo.pop()()


def entry_scales(entry: Entry, alpha: float, *, shared: bool) -> Tensor:
    """The smoothing scales of an input, float32 [K].

    With `shared`, as folding needs it, channels that one channel of the maker becomes (as where
    heads share their values) have one scale, from the maxima over all of them, and those that none
    becomes have 1.
    """
    if not shared:
        return smoothing_scales(entry.absmax, entry.weight_absmax, alpha)
    rows = torch.tensor(entry.group.rows, device=entry.absmax.device)
    own = smoothing_scales(_largest(entry.absmax, rows), _largest(entry.weight_absmax, rows), alpha)
    return own[rows.clamp_min(0)].where(rows >= 0, 1.0)


def _largest(values: Tensor, rows: Tensor) -> Tensor:
    """The largest of `values` [K] for each of the maker's channels."""
    made = values.new_zeros(int(rows.max()) + 1)
    return made.scatter_reduce(0, rows.clamp_min(0), values.where(rows >= 0, 0), "amax")


def fold(change: Change, group: InputGroup, scales: Tensor) -> None:
    """Divide the maker's channels by `scales` [K] and multiply the columns of all readers."""
    assert group.maker is not None
    maker = change.model.get_submodule(group.maker)
    weight = maker._parameters["weight"]
    assert weight is not None
    axis = 0 if group.is_norm else output_axis(maker)
    rows = torch.tensor(group.rows, device=scales.device)
    factors = scales.new_ones(weight.shape[axis])
    factors[rows[rows >= 0]] = scales[rows >= 0].reciprocal()
    multiply(change, group.matrices, scales)
    offset = group.offset
    change.parameter(group.maker, "weight", along(offset + weight.detach(), factors, axis) - offset)
    if (bias := maker._parameters.get("bias")) is not None:
        change.parameter(group.maker, "bias", bias.detach() * factors)
    if not group.is_norm:  # whoever compares outputs layer by layer has to know
        before = maker.__dict__.get("output_factors")
        change.note(group.maker, "output_factors", factors if before is None else before * factors)


def output_axis(linear: nn.Module) -> int:
    """The axis of the weight that runs over the channels of the output."""
    return 0 if isinstance(linear, nn.Linear) else 1  # GPT-2 keeps its weights [in, out]


def multiply(change: Change, matrices: Iterable[Matrix], scales: Tensor) -> None:
    """Multiply the columns of `matrices` by `scales`."""
    for matrix in matrices:
        weight = change.model.get_submodule(matrix.module)._parameters[matrix.parameter]
        assert weight is not None
        change.parameter(matrix.module, matrix.parameter, along(weight, scales, matrix.axis))


def transform(change: Change, linears: Iterable[str], scales: Tensor) -> None:
    """Put 1 / `scales` into the input slots of `linears` and multiply their columns."""
    for name in linears:
        linear = change.model.get_submodule(name)
        kind, old = transformed_class(linear), linear._parameters["weight"]
        assert kind is not None
        assert old is not None
        weight = along(old, scales, 1 - output_axis(linear)).to(old.dtype)
        change.module(name, kind.from_linear(linear, weight, scales.reciprocal()))
