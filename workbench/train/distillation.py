"""What a student is to have in common with its teacher: logits, hidden states, attention."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.errors import WorkbenchError

LayerMap = Literal["even", "last"] | dict[int, int]


class Distillation(BaseModel):
    """How much each loss counts.

    `labels` weighs the student's own loss on the labels, `logits` the divergence from the teacher's
    softened classes (Hinton, arXiv:1503.02531, times the square of `temperature`), `hidden` the
    mean squared distance of hidden states and `attention` that of attention maps (TinyBERT,
    arXiv:1909.10351). `layers` says which layer of the teacher each student's layer follows: "even"
    spreads them, "last" takes the last of each alone (MiniLM, arXiv:2002.10957).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    labels: float = Field(default=0.0, ge=0)
    logits: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=2.0, gt=0)
    hidden: float = Field(default=0.0, ge=0)
    attention: float = Field(default=0.0, ge=0)
    layers: LayerMap = "even"

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.labels or self.logits or self.hidden or self.attention):
            raise ValueError("no loss counts: give at least one weight above 0")
        return self

    @property
    def shown(self) -> dict[str, bool]:
        """What a model must give beside its logits, as keywords of its forward."""
        wanted = {"output_hidden_states": self.hidden, "output_attentions": self.attention}
        return {name: True for name, weight in wanted.items() if weight}

    def layer_map(self, student: int, teacher: int) -> dict[int, int]:
        """The teacher's layer (from 0) that each student's layer follows, of so many."""
        if self.layers == "last":
            return {student - 1: teacher - 1}
        if self.layers == "even":
            return {i: (i + 1) * teacher // student - 1 for i in range(student)}
        for i, j in self.layers.items():
            if not (0 <= i < student and 0 <= j < teacher):
                raise WorkbenchError(
                    f"layer {i} of the student cannot follow layer {j} of the teacher: they have "
                    f"{student} and {teacher}, counted from 0"
                )
        return self.layers


def soft_divergence(
    student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None
) -> Tensor:
    """KL(teacher || student) of softened logits [..., C], times T squared, in nats, over `mask`."""
    divergence = F.kl_div(
        (student.float() / temperature).log_softmax(-1),
        (teacher.float() / temperature).log_softmax(-1),
        reduction="none",
        log_target=True,
    ).sum(-1)
    return _mean(divergence, mask) * temperature**2


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of [B, ...] values, over the tokens [B, T] of `mask` where they are of tokens."""
    if mask is None or values.shape[: mask.dim()] != mask.shape:
        return values.mean()
    weights = mask.reshape(*mask.shape, *[1] * (values.dim() - mask.dim())).to(values)
    return (values * weights).sum() / weights.expand_as(values).sum()


class Projections(nn.Module):
    """Learned maps from the student's widths and heads to the teacher's, none where they agree."""

    def __init__(
        self,
        layers: Iterable[int],
        widths: tuple[int, int],
        heads: Mapping[int, tuple[int, int]],
    ) -> None:
        """For these `layers` of the student: its width and the teacher's, and their heads."""
        super().__init__()
        self.hidden = nn.ModuleDict()
        self.heads = nn.ParameterDict()
        for layer in layers:
            if widths[0] != widths[1]:
                self.hidden[str(layer)] = nn.Linear(*widths, bias=False)
            own, other = heads.get(layer, (0, 0))
            if own != other:
                self.heads[str(layer)] = nn.Parameter(torch.zeros(other, own))

    def states(self, layer: int, hidden: Tensor) -> Tensor:
        """Hidden states [B, T, D] of the student's `layer` in the teacher's width."""
        return self.hidden[str(layer)](hidden) if str(layer) in self.hidden else hidden

    def maps(self, layer: int, attention: Tensor) -> Tensor:
        """Attention [B, H, T, T] of the student's `layer`, its heads mixed into the teacher's."""
        if str(layer) not in self.heads:
            return attention
        return torch.einsum("oh,bhqk->boqk", self.heads[str(layer)].softmax(-1), attention)


def distance(
    how: Distillation,
    student: Any,
    teacher: Any,
    follows: Mapping[int, int],
    projections: Projections,
    mask: Tensor | None,
) -> Tensor:
    """The weighted sum of the losses between two outputs, of the teacher's own loss none."""
    total = torch.zeros(())
    if how.logits:
        total = total + how.logits * soft_divergence(
            student.logits, teacher.logits, how.temperature, mask
        )
    pairs = follows.items()
    if how.hidden:
        total = total + how.hidden * _average(
            _mean(
                (
                    projections.states(i, student.hidden_states[i + 1])
                    - teacher.hidden_states[j + 1]
                ).square(),
                mask,
            )
            for i, j in pairs
        )
    if how.attention:
        total = total + how.attention * _average(
            _attention(projections.maps(i, student.attentions[i]), teacher.attentions[j], mask)
            for i, j in pairs
        )
    return total


def _attention(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
    """Squared distance of attention [B, H, T, T] over the rows of real tokens.

    Not a divergence, which has no end where dropout has set the student's attention to 0.
    """
    return _mean((student - teacher).square().sum(-1).mean(1), mask)


def _average(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()
