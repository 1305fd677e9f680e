"""A scoreboard as tables for the terminal."""

from collections.abc import Iterator

from rich.table import Table

from workbench.scoreboard.board import Judged, Scoreboard

HEADINGS = (
    "tasks improved", "mean degradation", "lost over 3 %", "told apart from chance",
    "size of bf16", "prefill of fp32", "of bf16", "decode of fp32", "of bf16",
)  # fmt: skip

LEGEND = """\
Each quantized model beside its own fp32 original on the same documents. A difference counts as one
("worse", "better") only where chance is unlikely to make it: McNemar's exact test for right and
wrong answers, adjusted for the number of tasks, a paired bootstrap for losses."""


def scoreboard_tables(board: Scoreboard) -> Iterator[Table]:
    """One row a model, then one a task of each."""
    yield _models(board)
    for judged in board.judged:
        yield _tasks(judged)


def _models(board: Scoreboard) -> Table:
    table = Table(title=f"Quantized against fp32 ({threads(board)})", title_justify="left")
    table.add_column("model")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for judged in board.judged:
        table.add_row(judged.name, *summary_cells(judged))
    return table


def summary_cells(judged: Judged) -> list[str]:
    """One row of the table that Q8-Chat was shown by, under `HEADINGS`."""
    apart = [f"{task.task} {task.verdict}" for task in judged.told_apart]
    return [
        f"{judged.improved:.0%} of {len(judged.tasks)}",
        f"{judged.degradation:+.2%}",
        ", ".join(task.task for task in judged.serious) or "none",
        ", ".join(apart) or "none",
        f"{judged.bytes['quantized'] / judged.bytes['bf16']:.2f}",
        *(
            ratio(judged, kind, form)
            for kind in ("prefill_ms", "decode_ms")
            for form in ("fp32", "bf16")
        ),
    ]


def threads(board: Scoreboard) -> str:
    """How many ran, in words."""
    return f"{board.threads} thread{'s' if board.threads > 1 else ''}"


def noise(board: Scoreboard) -> str:
    """What a ratio of times must differ from 1 by to mean anything here."""
    timings = [
        timing
        for judged in board.judged
        for speed in judged.speed.values()
        for timing in (speed.prefill_ms, speed.decode_ms)
        if timing is not None and timing.drift is not None
    ]
    worst = max((timing.drift for timing in timings if timing.drift is not None), default=0.0)
    return (
        f"Noise floor: of {len(timings)} timings, the medians of every other run differ by up to "
        f"{worst:.1%}; ratios nearer to 1 than that say nothing."
    )


def ratio(judged: Judged, kind: str, form: str) -> str:
    """Time of the quantized model over that of `form`, with what the quartiles make of it."""
    ours, theirs = (getattr(judged.speed[name], kind) for name in ("quantized", form))
    if ours is None or theirs is None:
        return ""
    low, high = ours.low / theirs.high, ours.high / theirs.low
    return f"{ours.median / theirs.median:.2f} ({low:.2f} to {high:.2f})"


def _tasks(judged: Judged) -> Table:
    table = Table(title=judged.name, title_justify="left")
    table.add_column("task")
    table.add_column("score")
    for heading in ("documents", "fp32", "quantized", "difference, 95 %", "lost", "won", "p"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for task in judged.tasks:
        table.add_row(
            task.task,
            task.metric,
            f"{task.samples}",
            f"{task.reference:.4f}",
            f"{task.candidate:.4f}",
            f"{task.low:+.4f} to {task.high:+.4f}",
            "" if task.lost is None else str(task.lost),
            "" if task.won is None else str(task.won),
            "" if task.p is None else f"{task.p:.3f}",
            task.verdict,
        )
    return table
