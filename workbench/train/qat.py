"""Quantization-aware training: weights and scales learn with the rounding in the forward pass."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from workbench import metrics
from workbench.errors import WorkbenchError
from workbench.progress import track
from workbench.quant import Calibration, QModule
from workbench.quant.observers import Observer
from workbench.quant.quantize import quantized_modules

Batch = Mapping[str, Tensor]
Watch = Callable[[Sequence[float], Mapping[int, float]], None]

JUDGEMENTS = 10  # of held-out batches during a run: a better step is hardly missed, and time is


class TrainingCurve(BaseModel):
    """The loss of every step, and what it measures: "cross entropy" or "divergence".

    `held_out` has the loss on batches kept from training after so many steps; the parameters are
    those after `kept` steps, or where nothing was held out (None) the last.
    """

    model_config = ConfigDict(frozen=True)
    quantity: str
    losses: tuple[float, ...]
    learning_rate: float
    seed: int
    held_out: dict[int, float] = {}
    kept: int | None = None


def learn_scales(model: nn.Module) -> list[nn.Parameter]:
    """Make the scales of unfrozen quantized modules parameters; return those.

    They start where the optimizers of `quantize` and calibration put them, with zero points kept
    as they are, and learn with LSQ's gradient (arXiv:1902.08153). Any trainer can use them: they
    are in `model.parameters()`. Freezing makes them final. Raises WorkbenchError where a module is
    frozen, or static and not calibrated, before anything is changed.
    """
    modules = _trainable(model)
    made = []
    for module in modules.values():
        made += module.learn_scales()
    return made


def prepare(model: nn.Module, example: Batch) -> list[nn.Parameter]:
    """Make an unfrozen quantized `model` ready to train; return the parameters that will.

    They are replaced by copies first, so that models that share them are unharmed; the scales are
    among them. `example` shows which weights are read without calling their layers. Raises
    WorkbenchError, before anything is changed, as `learn_scales` does.
    """
    _trainable(model)
    own_parameters(model)
    with torch.no_grad(), _Reading(model):
        model(**example)
    learn_scales(model)
    return [p for p in model.parameters() if p.requires_grad]


def finetune(
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    steps: int = 100,
    learning_rate: float = 1e-4,
    teacher: nn.Module | None = None,
    seed: int = 0,
    held_out: int = 0,
    watch: Watch | None = None,
) -> TrainingCurve:
    """Train the weights and scales of an unfrozen quantized `model` for `steps` batches.

    With a `teacher`, usually the float model, the loss is the divergence from its outputs (KL of
    logits in nats per token, else 1 - cosine of hidden states); without, the model's own loss with
    the inputs as labels. AdamW, one cycle of the learning rate, gradients clipped to norm 1. The
    parameters are replaced by copies first, so that models that share them are unharmed. A cancel
    is obeyed between steps and leaves the model as far as it came. The last `held_out` batches are
    not trained on: they judge the model before, during and after, and its best parameters are kept.
    `watch` is called after each step with the losses so far and those on held-out batches. Raises
    WorkbenchError, before any training, on arguments that make no sense and on a loss that is not
    finite.
    """
    if steps < 1:
        raise WorkbenchError(f"steps is {steps}; train for at least 1")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise WorkbenchError(f"learning_rate is {learning_rate}; it must be above 0")
    if not batches:
        raise WorkbenchError("there are no batches to train on; give at least one")
    if not 0 <= held_out < len(batches):
        raise WorkbenchError(
            f"held_out is {held_out} of {len(batches)} batches; allowed: 0 to {len(batches) - 1}, "
            "so that one is left to train on"
        )
    seen, unseen = batches[: len(batches) - held_out], batches[len(batches) - held_out :]
    parameters = prepare(model, batches[0])
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    # Two steps more than taken: the cycle's last rates are too small to be worth a step.
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps + 2)
    losses: list[float] = []
    was_training = model.training
    best = _Best(model, parameters, unseen, teacher)
    best.judge(0)
    model.train()
    try:
        for batch in track(_shuffled(seen, steps, seed), "training"):
            loss = _loss(model, batch, teacher)
            if not torch.isfinite(loss):
                raise WorkbenchError(
                    f"the loss became {loss.item()} after {len(losses)} steps; lower the "
                    f"learning rate, which is {learning_rate}"
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            cycle.step()
            losses.append(loss.item())
            if len(losses) in (steps, *range(0, steps, max(1, steps // JUDGEMENTS))):
                best.judge(len(losses))
            if watch is not None:
                watch(losses, best.losses)
        best.restore()
    finally:
        model.train(was_training)
        for parameter in parameters:
            parameter.grad = None
    quantity = "cross entropy" if teacher is None else "divergence"
    return TrainingCurve(
        quantity=quantity,
        losses=tuple(losses),
        learning_rate=learning_rate,
        seed=seed,
        held_out=best.losses,
        kept=best.step if unseen else None,
    )


class _Best:
    """The parameters of the step that does best on batches it was not trained on."""

    def __init__(
        self,
        model: nn.Module,
        parameters: Sequence[nn.Parameter],
        unseen: Sequence[Batch],
        teacher: nn.Module | None,
    ) -> None:
        self.model, self.parameters, self.unseen, self.teacher = model, parameters, unseen, teacher
        self.losses: dict[int, float] = {}
        self.step = 0
        self._kept: list[Tensor] = []

    @torch.no_grad()
    def judge(self, step: int) -> None:
        """Measure the loss after `step` steps; keep the parameters if none was less."""
        if not self.unseen:
            return
        was_training = self.model.training
        self.model.eval()
        found = [_loss(self.model, batch, self.teacher).item() for batch in self.unseen]
        self.model.train(was_training)
        self.losses[step] = sum(found) / len(found)
        if self.losses[step] == min(self.losses.values()):
            self.step, self._kept = step, [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best parameters back."""
        for parameter, kept in zip(self.parameters, self._kept, strict=False):  # none: no judges
            parameter.copy_(kept)


def own_parameters(model: nn.Module) -> None:
    """Replace the parameters of `model` by copies; what shared one goes on sharing its copy."""
    copies: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                made = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
                module._parameters[name] = copies.setdefault(id(parameter), made)


class _Reading(Calibration):
    """Finds the weights that a model reads without calling their layers; ranges stay as they are.

    From then on they are read as they will be when frozen.
    """

    def watch(self, module: nn.Module, observer: Observer, x: Tensor) -> None:
        """Leave the observer alone."""


def _trainable(model: nn.Module) -> dict[str, QModule]:
    modules = dict(quantized_modules(model))
    if not modules:
        raise WorkbenchError("nothing to train: the model holds no quantized module; quantize it")
    for name, module in modules.items():
        if module.frozen:
            raise WorkbenchError(f"{name} is frozen: train before freezing")
        if not module.calibrated:
            raise WorkbenchError(
                f"{name} was never calibrated: run batches through the model inside "
                "`with Calibration():` first, or quantize its inputs dynamically"
            )
    return modules


def _shuffled(batches: Sequence[Batch], steps: int, seed: int) -> list[Batch]:
    """Whole passes over `batches`, each in an order of its own, cut after `steps`."""
    generator = torch.Generator().manual_seed(seed)
    passes = range(math.ceil(steps / len(batches)))
    orders = (torch.randperm(len(batches), generator=generator).tolist() for _ in passes)
    return [batches[i] for i in itertools.chain.from_iterable(orders)][:steps]


def _loss(model: nn.Module, batch: Batch, teacher: nn.Module | None) -> Tensor:
    if teacher is None:
        inputs: dict[str, Any] = {"labels": batch.get("input_ids"), **batch}
        loss = getattr(model(**inputs), "loss", None)
        if loss is None:
            raise WorkbenchError("the model gives no loss of its own; give a teacher")
        return loss  # type: ignore[no-any-return]
    with torch.no_grad():
        wanted = teacher(**batch)
    found = model(**batch)
    mask = batch.get("attention_mask")
    if hasattr(found, "logits"):
        distance = metrics.kl_divergence(wanted.logits, found.logits)
    else:
        distance = 1 - torch.nn.functional.cosine_similarity(
            wanted.last_hidden_state, found.last_hidden_state, dim=-1
        )
    if mask is None or distance.shape != mask.shape:
        return distance.mean()
    return (distance * mask).sum() / mask.sum()
