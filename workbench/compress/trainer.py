"""transformers' Trainer with a teacher: the same trainer otherwise, so that every option holds."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback

from workbench.compress.examples import ByLength
from workbench.compress.losses import Distillation, Projections, distance
from workbench.errors import WorkbenchError
from workbench.progress import track

PROJECTIONS = "distil_projections"


class Distils:
    """Mix into a Trainer class: the loss of `distillation` with `teacher` in place of its own.

    The projections are part of the model while it trains, so that optimizer and checkpoints hold
    them; `release` takes them out again.
    """

    model: Any
    teacher: nn.Module | None
    distillation: Distillation

    def teach(
        self, teacher: Any, distillation: Distillation, example: Mapping[str, Tensor]
    ) -> None:
        """Set the teacher (None: none), before the optimizer is made; `example` is run by both.

        Raises WorkbenchError where their classes, or the layers to follow, do not fit.
        """
        self.teacher, self.distillation = teacher, distillation
        self._attention: list[tuple[Any, str]] = []
        if teacher is None:
            return
        teacher.eval()
        self.model_accepts_loss_kwargs = False  # the losses are means over each batch
        if distillation.attention:  # other implementations do not give the maps
            for model in (self.model, teacher):
                self._attention.append((model, model.config._attn_implementation))
                model.set_attn_implementation("eager")
        with torch.no_grad():
            own, other = (model(**example, **distillation.shown) for model in (self.model, teacher))
        if distillation.logits and own.logits.shape != other.logits.shape:
            raise WorkbenchError(
                f"the student gives {own.logits.shape[-1]} classes or tokens and the teacher "
                f"{other.logits.shape[-1]}: both need the same label set and vocabulary"
            )
        self.follows, widths, heads = {}, (0, 0), {}
        if distillation.hidden:
            states = own.hidden_states, other.hidden_states
            self.follows = distillation.layer_map(*(len(found) - 1 for found in states))
            widths = tuple(found[-1].shape[-1] for found in states)
        if distillation.attention:
            maps = own.attentions, other.attentions
            self.follows = distillation.layer_map(*map(len, maps))
            heads = {i: (maps[0][i].shape[1], maps[1][j].shape[1]) for i, j in self.follows.items()}
        self.projections = Projections(list(self.follows), widths, heads)
        if next(self.projections.parameters(), None) is not None:
            self.model.add_module(PROJECTIONS, self.projections)

    def release(self) -> None:
        """Leave the student without projections, and both models with the attention they had."""
        self.model._modules.pop(PROJECTIONS, None)
        for model, before in self._attention:
            model.set_attn_implementation(before)

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, **keywords: Any
    ) -> Any:
        """The weighted sum of all losses, and the student's outputs."""
        if self.teacher is None:
            return super().compute_loss(model, inputs, return_outputs, **keywords)  # type: ignore[misc]
        how = self.distillation
        given = dict(inputs) if how.labels else {k: v for k, v in inputs.items() if k != "labels"}
        found = model(**given, **how.shown)
        with torch.no_grad():
            wanted = self.teacher(**{k: v for k, v in given.items() if k != "labels"}, **how.shown)
        mask = given.get("attention_mask")
        loss = distance(how, found, wanted, self.follows, self.projections, mask)
        if how.labels:
            loss = loss + how.labels * found.loss
        if not return_outputs:
            return loss
        return loss, {"loss": loss, "logits": getattr(found, "logits", found[0])}


class TextTrainer(Distils, Trainer):  # type: ignore[misc]
    """A trainer on texts, in batches of about one length, with or without a teacher."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._begun = time.perf_counter()
        self._before: float | None = None

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        lengths = [len(row["input_ids"]) for row in rows]
        return ByLength(lengths, self.args.train_batch_size, self.args.seed)

    def training_step(self, *args: Any, **keywords: Any) -> Tensor:
        """One step; raises WorkbenchError where its loss is no number any more."""
        loss: Tensor = super().training_step(*args, **keywords)
        if not torch.isfinite(loss):
            raise WorkbenchError(
                f"the loss became {loss.item()} after {self.state.global_step} steps; lower the "
                f"learning rate, which is {self.args.learning_rate}"
            )
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the seconds of the whole run, which goes on where a checkpoint's log ended."""
        if self._before is None:
            self._before = max((row["seconds"] for row in self.state.log_history), default=0.0)
        seconds = self._before + time.perf_counter() - self._begun
        super().log(logs | {"seconds": seconds}, start_time)


class Reports(TrainerCallback):
    """Tell `workbench.progress` of each step, and obey it: pause, and cancel between two steps."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.steps: Iterator[int] = iter(())

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start to count, after a resumption where it left off."""
        self.steps = track(range(state.max_steps), self.what)
        for _ in range(state.global_step):
            next(self.steps)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wait while paused; raises Cancelled once asked to stop."""
        next(self.steps, None)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the last step."""
        next(self.steps, None)
