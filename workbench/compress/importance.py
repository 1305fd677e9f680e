"""How much the loss hangs on each head and feed-forward unit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.compress.gates import gated
from workbench.compress.picture import importance_svg
from workbench.errors import WorkbenchError
from workbench.graph.widths import Part, Width, inner_widths
from workbench.progress import track

Batch = Mapping[str, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True)
class Importance:
    """`scores` [U] of the units of each width, by the name of its reader, from so many examples.

    They are the mean over examples of |dL/dgate|, in the loss's unit, and tell how far the loss
    would move, to first order, without the unit (Michel et al., arXiv:1905.10650).
    """

    widths: tuple[Width, ...]
    scores: dict[str, Tensor]
    examples: int

    def normalised(self) -> dict[str, Tensor]:
        """The scores over their root sum of squares in each layer, so that layers compare."""
        return {
            name: found / found.norm().clamp_min(torch.finfo(found.dtype).tiny)
            for name, found in self.scores.items()
        }

    def of(self, part: Part) -> list[list[float]]:
        """A row of normalised scores for each layer: the map of layers by heads (or units)."""
        scores = self.normalised()
        return [scores[width.reader].tolist() for width in self.widths if width.part == part]

    def _repr_html_(self) -> str:
        titles: dict[Part, str] = {
            "heads": "heads of each layer",
            "units": "feed-forward units, from the best",
        }
        parts = [(title, self.of(part), part) for part, title in titles.items()]
        return "".join(importance_svg(*one) for one in parts if one[1])


def own_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The model's own loss on a batch; a language model's labels are its inputs."""
    given: dict[str, Any] = dict(batch)
    if "labels" not in given and type(model).__name__.endswith(("ForCausalLM", "LMHeadModel")):
        ids, mask = given["input_ids"], given.get("attention_mask")
        given["labels"] = ids if mask is None else ids.masked_fill(mask == 0, -100)
    loss = getattr(model(**given), "loss", None)
    if loss is None:
        raise WorkbenchError(
            "importance needs a loss, and the model gives none: give batches with labels, or `loss`"
        )
    return loss  # type: ignore[no-any-return]


def importance(model: nn.Module, batches: Sequence[Batch], *, loss: Loss = own_loss) -> Importance:
    """Score every head and feed-forward unit of `model` on training `batches`.

    Gates of one are multiplied in, one for each example, and their gradients taken, afresh for each
    batch; weights and their gradients stay as they are. `loss(model, batch)` is the mean over the
    examples. A cancel is obeyed between batches. Raises WorkbenchError where there are no batches,
    no loss, or nothing to score.
    """
    if not batches:
        raise WorkbenchError("there are no batches to score on; give some of the training data")
    was_training = model.training
    model.eval()
    try:
        widths = inner_widths(model, small(batches[0]))
        if not widths:
            raise WorkbenchError(
                f"no heads and no feed-forward units of {type(model).__name__} can be pruned: none "
                "of its blocks has linears whose outputs one other linear reads alone"
            )
        sums = {width.reader: torch.zeros(width.count, dtype=torch.float64) for width in widths}
        examples = 0
        for batch in track(batches, "importance of heads and units"):
            count = len(next(iter(batch.values())))
            gates = {w.reader: torch.ones(count, w.count, requires_grad=True) for w in widths}
            with torch.enable_grad(), gated(model, widths, gates):
                total = loss(model, batch) * count
                grads = torch.autograd.grad(total, list(gates.values()))
            for name, grad in zip(gates, grads, strict=True):
                sums[name] += grad.double().abs().sum(0)
            examples += count
    finally:
        model.train(was_training)
    return Importance(tuple(widths), {n: s / examples for n, s in sums.items()}, examples)


def small(batch: Batch) -> dict[str, Tensor]:
    """The first two examples of a batch, without labels: enough to see how a model is built."""
    return {name: value[:2] for name, value in batch.items() if name != "labels"}
