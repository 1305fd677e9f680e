"""A teacher beside the model that a trainer trains: its losses, and what the student needs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.train.distillation import Distillation, Projections, distance

PROJECTIONS = "distil_projections"


class Lesson:
    """The losses of `how` between a student and its `teacher`.

    Projections to the teacher's width are part of the student while it trains, so that optimizer
    and checkpoints hold them, and both give attention maps where these count.
    """

    def __init__(self, teacher: Any, how: Distillation) -> None:
        self.teacher, self.how = teacher.eval(), how
        self.student: Any = None
        self.joined = False
        self.follows: Mapping[int, int] = {}
        self.projections = Projections((), (0, 0), {})
        self._attention: list[tuple[Any, str]] = []

    def prepare(self, student: Any, example: Mapping[str, Tensor]) -> None:
        """Make the projections for `student`; both models run `example` and are left as they were.

        Raises WorkbenchError where their classes, or the layers to follow, do not fit.
        """
        self.leave()
        self.student, how = student, self.how
        was_training = student.training
        student.eval()
        self._show_attention()
        try:
            with torch.no_grad():
                own, other = (model(**example, **how.shown) for model in (student, self.teacher))
        finally:
            self.leave()
            student.train(was_training)
        if how.logits and own.logits.shape != other.logits.shape:
            raise WorkbenchError(
                f"the student gives {own.logits.shape[-1]} classes or tokens and the teacher "
                f"{other.logits.shape[-1]}: both need the same label set and vocabulary"
            )
        follows, widths, heads = {}, (0, 0), {}
        if how.hidden:
            states = own.hidden_states, other.hidden_states
            follows = how.layer_map(*(len(found) - 1 for found in states))
            widths = tuple(found[-1].shape[-1] for found in states)
        if how.attention:
            maps = own.attentions, other.attentions
            follows = how.layer_map(*map(len, maps))
            heads = {i: (maps[0][i].shape[1], maps[1][j].shape[1]) for i, j in follows.items()}
        self.follows = follows
        self.projections = Projections(list(follows), widths, heads).to(
            next(student.parameters()).device
        )

    def check_processes(self, count: int) -> None:
        """Raise WorkbenchError for projections in several processes, which would learn apart.

        What averages gradients among processes sees those alone that the student's forward uses.
        """
        if count > 1 and next(self.projections.parameters(), None) is not None:
            raise WorkbenchError(
                f"this lesson learns maps to the teacher's width or heads, which {count} processes "
                "would each learn for themselves: train in one process, take a teacher as wide as "
                "the student, or give Distillation(hidden=0, attention=0)"
            )

    @contextmanager
    def given(self) -> Iterator[None]:
        """Let the student hold what the losses need, for a block, which may lie in another."""
        outer = not self.joined
        if outer:
            self.join()
        try:
            yield
        finally:
            if outer:
                self.leave()

    def join(self) -> None:
        """Let the student hold what the losses need, until it leaves."""
        self.joined = True
        self._show_attention()
        if next(self.projections.parameters(), None) is not None:
            self.student.add_module(PROJECTIONS, self.projections)

    def leave(self) -> None:
        """Leave the student without projections, and both models with the attention they had."""
        self.joined = False
        if self.student is not None:
            self.student._modules.pop(PROJECTIONS, None)
        while self._attention:
            model, before = self._attention.pop()
            model.set_attn_implementation(before)

    def loss(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """The weighted sum of all losses, and the student's outputs."""
        how = self.how
        given = dict(inputs) if how.labels else {k: v for k, v in inputs.items() if k != "labels"}
        found = model(**given, **how.shown)
        with torch.no_grad():
            wanted = self.teacher(**{k: v for k, v in given.items() if k != "labels"}, **how.shown)
        mask = given.get("attention_mask")
        loss = distance(how, found, wanted, self.follows, self.projections, mask)
        if how.labels:
            loss = loss + how.labels * found.loss
        return loss, {"loss": loss, "logits": getattr(found, "logits", found[0])}

    def _show_attention(self) -> None:
        """Switch to the attention that gives its maps; other implementations do not."""
        if not self.how.attention:
            return
        for model in (self.student, self.teacher):
            self._attention.append((model, model.config._attn_implementation))
            model.set_attn_implementation("eager")
