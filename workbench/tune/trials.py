"""What allocations do to a model, measured."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from workbench.models.loaded import share
from workbench.models.remembered import Remembered
from workbench.quant import Optimizer, QuantArgs
from workbench.smooth.verdict import distance, divergence
from workbench.tune.candidates import rounded

KEPT = 2  # rounded weights of each layer: where the search stands, and what it looks at


class Trials:
    """Rounds linears of the float `model` as a choice says and measures the damage on `batches`.

    In the unit of `Sensitivity`: KL in nats a position `by_logits`, else the squared error of the
    output over its power. In memory are the float outputs and two rounded weights of each layer.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Mapping[str, Tensor]],
        candidates: Mapping[str, QuantArgs],
        optimizer: Optimizer | None,
        *,
        by_logits: bool,
    ) -> None:
        self.model, self.batches = model, batches
        self.candidates, self.optimizer = candidates, optimizer
        self.measure = divergence if by_logits else distance
        self.rounded = share(model).eval()
        self.reference = Remembered(self.rounded, batches)
        self._weights: dict[str, dict[str, nn.Parameter]] = {}

    def damage(self, choice: Mapping[str, str]) -> float:
        """Of a candidate for each layer."""
        for name, key in choice.items():
            self.rounded.get_submodule(name)._parameters["weight"] = self._weight(name, key)
        return self.measure(self.reference, self.rounded, self.batches)

    @torch.no_grad()
    def _weight(self, name: str, key: str) -> nn.Parameter:
        known = self._weights.setdefault(name, {})
        if key not in known:
            module, args = self.model.get_submodule(name), self.candidates[key]
            _, weight = rounded(name, module, args, self.optimizer)
            known[key] = nn.Parameter(weight, requires_grad=False)
        known[key] = known.pop(key)  # the last one is the last to go
        if len(known) > KEPT:
            del known[next(iter(known))]
        return known[key]
