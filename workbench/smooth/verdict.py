"""Whether searched alphas beat the best single one on data that the search did not see."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench import metrics
from workbench.graph.calls import run
from workbench.models.loaded import share
from workbench.observe import Statistics
from workbench.progress import track
from workbench.quant import Calibration, QuantArgs, freeze, quantize
from workbench.smooth.smooth import smooth


@dataclass(frozen=True)
class Verdict:
    """The damage of searched alphas and of each single one, on held-out batches.

    Damage is the mean divergence from the float model in nats for models with logits, and the
    squared error over the squared output for others.
    """

    measure: str
    searched: float
    single: dict[float, float]

    @property
    def best_single(self) -> float:
        """The alpha that alone does least damage."""
        return min(self.single, key=self.single.__getitem__)

    @property
    def beats(self) -> bool:
        """Whether the searched alphas do less damage than any single one."""
        return self.searched < self.single[self.best_single]

    def __str__(self) -> str:
        word = "beat" if self.beats else "do not beat"
        return (
            f"the searched alphas {word} the best single alpha, {self.best_single:g}: "
            f"{self.measure} {self.searched:.3g} against {self.single[self.best_single]:.3g}"
        )


@dataclass(frozen=True)
class Judge:
    """Quantizes a whole model with alphas and measures the damage on batches it did not see.

    `statistics` and `seen` give scales and ranges, `unseen` the damage.
    """

    model: nn.Module
    statistics: Statistics
    seen: Sequence[Mapping[str, Any]]
    unseen: Sequence[Mapping[str, Any]]
    weights: QuantArgs | None
    activations: QuantArgs | None
    exclude: tuple[str, ...]

    @property
    def has_logits(self) -> bool:
        """Whether damage is divergence."""
        with torch.no_grad():
            outputs = self.model(**self.unseen[0])
        return isinstance(outputs, Mapping) and "logits" in outputs

    def damage(self, alpha: float | None, overrides: Mapping[str, float]) -> float:
        """The damage with one alpha for all inputs but those in `overrides`."""
        made = share(self.model)
        smooth(made, self.statistics, alpha, overrides=overrides, exclude=self.exclude)
        quantize(made, self.weights, self.activations, exclude=self.exclude)
        if self.activations is not None and not self.activations.dynamic:
            with torch.no_grad(), Calibration(made):
                for batch in self.seen:
                    made(**batch)
        freeze(made)
        measure = divergence if self.has_logits else distance
        return measure(self.model, made, self.unseen)

    def verdict(self, chosen: Mapping[str, float], alphas: Sequence[float]) -> Verdict:
        """Compare `chosen` with every single one of `alphas`."""
        single = {alpha: self.damage(alpha, {}) for alpha in track(alphas, "judging alphas")}
        measure = "divergence (nats)" if self.has_logits else "relative squared error"
        return Verdict(measure, self.damage(None, chosen), single)


@torch.no_grad()
def divergence(model: nn.Module, other: nn.Module, batches: Iterable[Mapping[str, Any]]) -> float:
    """The mean KL divergence of `other` from `model` in nats, over all positions but padding."""
    total, count = 0.0, 0
    for batch in batches:
        each = metrics.kl_divergence(model(**batch).logits, other(**batch).logits)
        each = _kept(each.unsqueeze(-1), batch)
        total, count = total + each.double().sum().item(), count + each.numel()
    return total / count


@torch.no_grad()
def distance(model: nn.Module, other: nn.Module, batches: Iterable[Mapping[str, Any]]) -> float:
    """Squared error of the first output over its squares, over all positions but padding."""
    noise = signal = 0.0
    for batch in batches:
        expected, found = (_kept(run(m, batch)[0], batch).double() for m in (model, other))
        noise += (expected - found).square().sum().item()
        signal += expected.square().sum().item()
    return noise / signal


def _kept(values: Tensor, batch: Mapping[str, Any]) -> Tensor:
    mask = batch.get("attention_mask")
    keeps = isinstance(mask, Tensor) and values.shape[:-1] == mask.shape
    return values[mask.bool()] if keeps else values  # type: ignore[union-attr]
