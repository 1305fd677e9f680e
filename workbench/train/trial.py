"""Time each accelerator on a few steps that leave no trace, and keep what pays."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError, in_words
from workbench.progress import track
from workbench.train.accelerators import Accelerator, accelerators
from workbench.train.choices import Choice, Choices, ratio_of
from workbench.train.lengths import can_be_reread, collate, lengths_of
from workbench.train.untouched import untouched

if TYPE_CHECKING:
    from workbench.train.trainer import WorkbenchTrainer

LEAST_PAIRS, MOST_PAIRS = 4, 12  # steps of each of two contenders
LEAST_GAIN = 1.01  # what is below is not worth another rounding
SLOW_START_S = 60.0  # assumed of compiling, which nobody knows beforehand
Indexes = Sequence[Sequence[int]]  # the rows of the micro-batches of a step


def choose(trainer: "WorkbenchTrainer") -> Choices:
    """Try the allowed accelerators one after the other, each on top of those kept before it.

    Each is timed in turns against those. The trial takes at most the arguments' share of the run;
    what does not fit into it is not tried.
    """
    started = time.perf_counter()
    with untouched(trainer):
        rows, kept = _untimed(trainer)
        left = [accelerators[name] for name in trainer.args.allowed if accelerators[name].timed]
        found = Choices(rows=tuple(rows))
        if left:
            found = _timed(trainer, rows, kept, left)
    return found.model_copy(update={"seconds": time.perf_counter() - started})


def _timed(
    trainer: "WorkbenchTrainer",
    rows: list[Choice],
    kept: list[Accelerator],
    left: list[Accelerator],
) -> Choices:
    refused = _refusal(trainer)
    if refused is not None:
        rows += [Choice(name=a.name, verdict="not tried", reason=refused) for a in left]
        return Choices(rows=tuple(rows))
    untimed = list(kept)
    obstacles = {a.name: _obstacle(trainer, a) for a in left}
    tries = list(obstacles.values()).count(None) + 1  # and all together at the end
    steps = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1]
    pairs = min(MOST_PAIRS, int(trainer.args.accelerate_share * steps / (2 * tries)) - 1)
    if pairs < LEAST_PAIRS:
        reason = f"{steps} steps are too few to time it in {trainer.args.accelerate_share:.0%}"
        rows += [
            Choice(name=name, verdict="does not apply", reason=found)
            if found is not None
            else Choice(name=name, verdict="not tried", reason=reason)
            for name, found in obstacles.items()
        ]
        return Choices(rows=tuple(rows))
    plain = Contender(trainer, untimed, pairs)
    plain.run(0)  # what a first step prepares
    step_s = sum(plain.run(number) for number in range(pairs)) / pairs
    budget = trainer.args.accelerate_share * steps * step_s
    for accelerator in left:
        row = _tried(trainer, accelerator, kept, pairs, budget)
        if row.verdict == "kept":
            kept.append(accelerator)
        rows.append(row)
    found = Choices(rows=tuple(rows), step_s=step_s)
    if len(kept) > len(untimed):
        ratio, error, _ = _raced(plain, Contender(trainer, kept, pairs), pairs)
        found = found.model_copy(update={"ratio": ratio, "error": error})
    return found


def unmeasured(trainer: "WorkbenchTrainer") -> Choices:
    """Switch on all that are allowed and apply, each after one step that shows that it works."""
    started = time.perf_counter()
    rows: list[Choice] = []
    kept: list[Accelerator] = []
    with untouched(trainer):
        for name in trainer.args.allowed:
            accelerator = accelerators[name]
            with on(trainer, kept):
                reason = _obstacle(trainer, accelerator)
            if reason is not None:
                rows.append(Choice(name=name, verdict="does not apply", reason=reason))
                continue
            begun = time.perf_counter()
            failed = None
            if accelerator.timed and _refusal(trainer) is None:
                failed = _failure(trainer, [*kept, accelerator])
            if failed is not None:
                rows.append(Choice(name=name, verdict="failed", reason=failed))
                continue
            first = time.perf_counter() - begun if accelerator.slow_start else 0.0
            rows.append(Choice(name=name, verdict="kept", reason=accelerator.brings, first_s=first))
            kept.append(accelerator)
    return Choices(rows=tuple(rows), seconds=time.perf_counter() - started)


def on(trainer: "WorkbenchTrainer", chosen: Sequence[Accelerator]) -> ExitStack:
    """Switch these on for a `with` block."""
    with ExitStack() as stack:
        for accelerator in chosen:
            stack.enter_context(accelerator.on(trainer))
        return stack.pop_all()


class Contender:
    """The trainer with some accelerators, its own optimizer, and steps that stand for its data.

    The steps are picked at even distances among all of an epoch ordered by padded length, so that
    few of them tell the mean.
    """

    def __init__(
        self, trainer: "WorkbenchTrainer", chosen: Sequence[Accelerator], count: int
    ) -> None:
        self.trainer, self.chosen = trainer, list(chosen)
        with on(trainer, self.chosen):
            self.steps = _steps(trainer, count)
            if trainer.optimizer is None:
                self.optimizer = trainer.create_optimizer()
                trainer.optimizer = None
            else:
                self.optimizer = trainer.optimizer

    def run(self, number: int) -> float:
        """Seconds of one optimizer step, its data collated too."""
        trainer = self.trainer
        with on(trainer, self.chosen):
            start = time.perf_counter()
            batches = [collate(trainer, rows) for rows in self.steps[number % len(self.steps)]]
            _step(trainer, batches, self.optimizer)
            return time.perf_counter() - start


def _step(trainer: "WorkbenchTrainer", batches: list[Any], optimizer: Any) -> None:
    """What `Trainer._run_epoch` does between two logs."""
    model, args = trainer.model, trainer.args
    items = trainer._get_num_items_in_batch(batches, args.device)
    trainer.current_gradient_accumulation_steps = len(batches)
    for batch in batches:
        with trainer.accelerator.autocast():
            trainer.training_step(model, batch, items)
    if args.max_grad_norm > 0:
        trainer._clip_grad_norm(model)
    optimizer.step()
    model.zero_grad()


def _steps(trainer: "WorkbenchTrainer", count: int) -> list[Indexes]:
    """The rows of `count` steps of an epoch as the sampler orders them now."""
    sampler = trainer._get_train_sampler()
    assert sampler is not None  # `_refusal` saw to it
    order = list(sampler)
    micro, accumulated = trainer._train_batch_size, trainer.args.gradient_accumulation_steps
    size = micro * accumulated
    whole = [order[i : i + size] for i in range(0, len(order) - size + 1, size)] or [order]
    lengths = lengths_of(trainer)
    if lengths is not None:
        whole.sort(key=lambda rows: max(lengths[i] for i in rows))
    picked = [whole[int((i + 0.5) / count * len(whole))] for i in range(count)]
    return [[rows[i : i + micro] for i in range(0, len(rows), micro)] for rows in picked]


def _tried(
    trainer: "WorkbenchTrainer",
    accelerator: Accelerator,
    kept: Sequence[Accelerator],
    pairs: int,
    budget: float,
) -> Choice:
    name = accelerator.name
    with on(trainer, kept):
        reason = _obstacle(trainer, accelerator)
    if reason is not None:
        return Choice(name=name, verdict="does not apply", reason=reason)
    if accelerator.slow_start and budget < SLOW_START_S:
        reason = f"its first steps may take {SLOW_START_S:.0f} s: more than this run may spend"
        return Choice(name=name, verdict="not tried", reason=reason)
    try:
        both = Contender(trainer, kept, pairs), Contender(trainer, [*kept, accelerator], pairs)
        ratio, error, first = _raced(*both, pairs)
    except Exception as problem:  # noqa: BLE001 - a compiler's or a kernel's, whatever it is
        return Choice(name=name, verdict="failed", reason=_in_short(problem))
    pays = ratio - 2 * error >= LEAST_GAIN
    return Choice(
        name=name,
        verdict="kept" if pays else "does not pay",
        reason=accelerator.brings if pays else "no gain beyond noise",
        ratio=ratio,
        error=error,
        first_s=first,
    )


def _raced(one: Contender, other: Contender, pairs: int) -> tuple[float, float, float]:
    """How many times faster `other` is, the standard error, and what its first steps took more."""
    first = [other.run(number) for number in range(pairs)]  # every shape once: compilers wait
    one.run(0)
    times: tuple[list[float], list[float]] = [], []
    for number in track(range(pairs), "choosing accelerators"):
        for which in (0, 1) if number % 2 else (1, 0):
            times[which].append((one, other)[which].run(number))
    return *ratio_of(*times), max(0.0, sum(first) - sum(times[1]))


def _untimed(trainer: "WorkbenchTrainer") -> tuple[list[Choice], list[Accelerator]]:
    rows, kept = [], []
    for accelerator in (accelerators[name] for name in trainer.args.allowed):
        if accelerator.timed:
            continue
        reason = _obstacle(trainer, accelerator)
        if reason is None:
            kept.append(accelerator)
        rows.append(
            Choice(
                name=accelerator.name,
                verdict="kept" if reason is None else "does not apply",
                reason=reason or accelerator.brings,
            )
        )
    return rows, kept


def _obstacle(trainer: "WorkbenchTrainer", accelerator: Accelerator) -> str | None:
    """Why it does not apply; what it fails to find out is a reason too."""
    try:
        return accelerator.clash(trainer.args) or accelerator.obstacle(trainer)
    except WorkbenchError:
        raise
    except Exception as problem:  # noqa: BLE001 - of a data set or a model, whatever it is
        return _in_short(problem)


def _refusal(trainer: "WorkbenchTrainer") -> str | None:
    """Why no step can be tried before the run; None where one can."""
    if trainer.args.world_size > 1:
        return "several processes would each choose for themselves"
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return "the weights are divided only once the run begins"
    if not can_be_reread(trainer):
        return "the data are a stream: a trial would use them up"
    return None


def _failure(trainer: "WorkbenchTrainer", chosen: Sequence[Accelerator]) -> str | None:
    """What one step with these accelerators fails with; None where it works."""
    try:
        Contender(trainer, chosen, 1).run(0)
    except Exception as problem:  # noqa: BLE001 - a compiler's or a kernel's, whatever it is
        return _in_short(problem)
    finally:
        trainer.model.zero_grad()
    return None


def _in_short(problem: BaseException) -> str:
    lines = [line for line in in_words(problem).splitlines() if line.strip()]
    return f"{lines[0][:200]}; the run goes on without"
