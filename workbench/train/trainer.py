"""transformers' Trainer, made faster by what pays on this model, these data and this machine."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from torch import nn
from torch.utils.data import Sampler
from transformers import Trainer

from workbench.errors import WorkbenchError
from workbench.ops.heap import trim
from workbench.train.accelerators import accelerators
from workbench.train.accelerators.merged import split
from workbench.train.arguments import WorkbenchTrainingArguments
from workbench.train.aware import check_trainable, finish, make_aware
from workbench.train.choices import Choices
from workbench.train.distillation import Distillation
from workbench.train.lengths import Rows, first_rows
from workbench.train.lesson import Lesson
from workbench.train.memory import out_of_memory
from workbench.train.proof import differs
from workbench.train.sharded import shard_on_processors
from workbench.train.trial import choose, on, unmeasured
from workbench.train.untouched import untouched

if TYPE_CHECKING:
    from workbench.recipe import QuantizationSpec

log = logging.getLogger(__name__)

T = TypeVar("T")
Batch = dict[str, Any]


class WorkbenchTrainer(Trainer):
    """A drop-in for transformers' Trainer that says what it does to be faster.

    `choices` tells what was switched on, why, and what it brought; a file beside each checkpoint
    holds them too, and a resumed run takes them from there. Evaluation runs as in transformers.

    With a recipe's section `quantization`, or a model that is quantized and not frozen, training is
    aware of the rounding: weights and scales learn with it, and when training ends the model is
    frozen, as it was evaluated. Static ranges come from the first training rows. With a `teacher`
    the loss is that of the section `distillation`. Raises WorkbenchError for a section that needs
    more than this, and a teacher that does not fit.
    """

    args: WorkbenchTrainingArguments
    model: Any
    train_dataset: Any

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        *rest: Any,
        quantization: "QuantizationSpec | None" = None,
        teacher: nn.Module | None = None,
        distillation: Distillation | None = None,
        **keywords: Any,
    ) -> None:
        if args is None:
            args = WorkbenchTrainingArguments("tmp_trainer")
        if not isinstance(args, WorkbenchTrainingArguments):
            raise WorkbenchError(
                f"args are {type(args).__name__}; give WorkbenchTrainingArguments, which take "
                "every argument that those take"
            )
        self.choices = Choices()
        self.rows: Rows | None = None
        self.compiled: tuple[nn.Module, Any] | None = None
        self.around_loss: list[Callable[[], AbstractContextManager[Any]]] = []
        self.rebatch: list[Callable[[Batch], Batch]] = []
        self.samplers: list[Callable[[], Sampler[int]]] = []
        self._chosen_for: tuple[int, int] | None = None  # rows of a batch, batches of a step
        self.quantization: QuantizationSpec | None = None
        self.lesson: Lesson | None = None
        if distillation is not None and teacher is None:
            raise WorkbenchError("distillation has nobody to learn from: give a teacher as well")
        super().__init__(model, args, *rest, **keywords)
        self.quantization = quantization
        make_aware(self, self.model)
        if teacher is not None:
            self.model_accepts_loss_kwargs = False  # the losses are means over each batch
            self.lesson = Lesson(teacher.to(self.args.device), distillation or Distillation())
            self.lesson.prepare(self.model, self._example())
            self.lesson.check_processes(self.args.world_size)

    def call_model_init(self, trial: Any = None) -> Any:
        """A new model; quantized and taught like the first, once the trainer has data for it."""
        model = super().call_model_init(trial)
        make_aware(self, model)
        if self.lesson is not None:
            self.lesson.prepare(model, self._example())
            self.lesson.join()
        return model

    def _example(self) -> Batch:
        return {name: value for name, value in first_rows(self, 1).items() if name != "labels"}

    def train(self, *rest: Any, **keywords: Any) -> Any:
        """Train as transformers does, with what a lesson adds to the model meanwhile."""
        with self._taught():
            return super().train(*rest, **keywords)

    def evaluation_loop(self, *rest: Any, **keywords: Any) -> Any:
        """Evaluate as transformers does, by the loss that is trained."""
        with self._taught():
            return super().evaluation_loop(*rest, **keywords)

    def _taught(self) -> AbstractContextManager[None]:
        return nullcontext() if self.lesson is None else self.lesson.given()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss as in transformers, or with a teacher that of its lesson."""
        if self.lesson is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, outputs = self.lesson.loss(model, inputs)
        return (loss, outputs) if return_outputs else loss

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Those of transformers, and no scale: a smaller scale is no simpler model."""
        names = super().get_decay_parameter_names(model)
        return [name for name in names if not name.endswith("_scale")]

    def create_accelerator_and_postprocess(self) -> None:
        """As in transformers; FSDP on processors too."""
        super().create_accelerator_and_postprocess()
        shard_on_processors(self)

    @contextmanager
    def hooked(self, hooks: list[T], hook: T) -> Iterator[None]:
        """Have `hook` among the trainer's `around_loss`, `rebatch` or `samplers` for a block."""
        hooks.append(hook)
        try:
            yield
        finally:
            hooks.remove(hook)

    def differs(self, change: Callable[[Batch], Batch], batch: Batch) -> str | None:
        """Why a changed batch would not give the same loss; None where it does."""
        with untouched(self):
            return differs(self, [batch], [change(dict(batch))])

    def compute_loss_context_manager(self) -> ExitStack:
        """What surrounds the loss, of training steps only."""
        stack: ExitStack = super().compute_loss_context_manager()
        if self.model.training:
            for around in self.around_loss:
                stack.enter_context(around())
        return stack

    def training_step(self, model: nn.Module, inputs: Any, *rest: Any, **keywords: Any) -> Any:
        """One micro-batch, after the changes that switched-on accelerators make to it."""
        for change in self.rebatch:
            inputs = change(dict(inputs))
        return super().training_step(model, inputs, *rest, **keywords)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        if self.samplers and (train_dataset is None or train_dataset is self.train_dataset):
            return self.samplers[-1]()
        return super()._get_train_sampler(train_dataset)

    def _inner_training_loop(
        self, batch_size: int | None = None, *rest: Any, **keywords: Any
    ) -> Any:
        """Choose before the first step, once; then train with what was chosen.

        This is where transformers has made the model, loaded a checkpoint and set the arguments of
        a hyper-parameter search. Where memory runs out before the first step is taken, it is taken
        in smaller batches, as many as leave it the same.
        """
        check_trainable(self.model)
        checkpoint = keywords.get("resume_from_checkpoint")
        saved = None if checkpoint is None else Choices.load(Path(checkpoint))
        whole = self._train_batch_size
        size = saved.micro_batch if saved is not None and saved.micro_batch else whole
        step = whole, self.args.gradient_accumulation_steps  # a search may try others
        while True:
            with ExitStack() as stack:
                if size != whole:
                    stack.enter_context(split(self, size))
                try:
                    if self._chosen_for != step:
                        self._choose(saved)
                        self._chosen_for = step
                    if size != whole:
                        self.choices = self.choices.model_copy(update={"micro_batch": size})
                    kept = [accelerators[name] for name in self.choices.kept]
                    stack.enter_context(on(self, kept))
                    done = super()._inner_training_loop(batch_size, *rest, **keywords)
                    finish(self.model)
                    return done
                except Exception as error:
                    smaller = next((n for n in range(size - 1, 0, -1) if whole % n == 0), None)
                    started = self.state.global_step > getattr(self, "_initial_global_step", 0)
                    own = self.args.accelerate == "none" or self.args.auto_find_batch_size
                    if own or started or smaller is None or not out_of_memory(error):
                        raise
                    size = smaller
                finally:
                    trim()
            log.warning(
                "Memory does not hold a batch of %s rows: going on with %s at a time, %s times a "
                "step", whole, size, whole // size,
            )  # fmt: skip

    def _choose(self, saved: Choices | None) -> None:
        if saved is not None:
            self.choices = saved
        elif self.args.allowed:
            self.choices = choose(self) if self.args.accelerate_trial else unmeasured(self)
        if self.choices.rows and not self.args.disable_tqdm and self.is_world_process_zero():
            Console(stderr=True).print(self.choices.table())

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save and self.choices.rows:
            self.choices.save(Path(output_dir or self.args.output_dir or ""))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        gather = getattr(inner, "consolidate_state_dict", None)
        if gather is not None:  # every process sends what it keeps of the optimizer
            gather()
        super()._save_optimizer_and_scheduler(output_dir)
