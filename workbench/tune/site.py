"""The linears that read one tensor, all of them waiting for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from workbench.graph import InputGroup
from workbench.quant import QLinear, QModule
from workbench.smooth.fold import Change, fold
from workbench.tune.layer import Layer, replace_weight
from workbench.tune.stream import Call


@dataclass
class Site:
    """Layers of `model` that share an input, as `group` says, and an algorithm."""

    model: nn.Module
    layers: Sequence[Layer]
    calls: Sequence[Call]
    group: InputGroup | None

    @property
    def folds(self) -> bool:
        """Whether a norm makes the input, channel by channel, for nobody but these layers."""
        group = self.group
        return (
            group is not None
            and group.foldable
            and group.norm is not None
            and not isinstance(self.model.get_submodule(group.norm), QModule)
            and len(group.watched) == 1
            and sorted(group.rows) == list(range(len(group.rows)))
            and set(group.readers) == {layer.name for layer in self.layers}
        )

    @property
    def scalable(self) -> bool:
        """Whether a scale has a place: in the norm, or in the slot of every layer."""
        return self.folds or all(isinstance(layer.module, QLinear) for layer in self.layers)

    def scale(self, factors: Tensor) -> None:
        """Multiply the weights' columns by `factors` [K] and divide the inputs by them.

        The norm does that from now on, or the input slots. Inputs under way, which the norm made
        before, are divided where they lie: nobody else reads them.
        """
        if self.folds:
            assert self.group is not None
            fold(Change(self.model), self.group, factors)
            for x in {id(call.input): call.input for call in self.calls}.values():
                x.div_(factors)
        else:
            for layer in self.layers:
                replace_weight(layer.module, layer.weight * factors)
                slot = layer.module.input_transform
                made = factors.reciprocal() if slot is None else slot / factors
                layer.module._buffers["input_transform"] = made
        where = "folded into the norm" if self.folds else "in the input slot"
        for layer in self.layers:
            layer.notes.append(f"its scales are {where}")
