"""A scoreboard as Markdown: the table that Q8-Chat was shown by, and every task by recipe."""

from collections.abc import Iterable

from workbench.compare import Difference
from workbench.scoreboard.board import Judged, Scoreboard
from workbench.scoreboard.tables import HEADINGS, LEGEND, noise, summary_cells, threads


def scoreboard_markdown(board: Scoreboard) -> str:
    """One row a recipe, then for each model one row a task and one column a recipe."""
    drawn = "all documents" if board.limit is None else f"at most {board.limit} documents a task"
    machine = board.machine.get("processor", "an unknown processor")
    made = f"{machine}, {threads(board)}; {drawn}, seed {board.seed}."
    by_model: dict[str, list[Judged]] = {}
    for judged in board.judged:
        by_model.setdefault(judged.model, []).append(judged)
    parts = [
        f"{LEGEND}\n\n{made}\n{noise(board)}",
        _grid(["", *HEADINGS], ([one.name, *summary_cells(one)] for one in board.judged)),
        *(_tasks(model, recipes) for model, recipes in by_model.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _tasks(model: str, recipes: list[Judged]) -> str:
    first = recipes[0].tasks
    rows = (
        [
            f"{task.task}, {task.metric}",
            f"{task.samples}",
            f"{task.reference:.4f}",
            *(_cell(one, task.task) for one in recipes),
        ]
        for task in first
    )
    return _grid([f"`{model}`", "documents", "fp32", *(one.name for one in recipes)], rows)


def _cell(judged: Judged, name: str) -> str:
    task = next((task for task in judged.tasks if task.task == name), None)
    return "" if task is None else f"{task.candidate:.4f} ({_evidence(task)})"


def _evidence(task: Difference) -> str:
    """How the difference is known: documents lost and won, or its interval; and the verdict."""
    if task.lost is None:
        found = f"{task.low:+.4f} to {task.high:+.4f}"
    else:
        found = f"-{task.lost} +{task.won}"
        found += "" if task.p is None else f", p {task.p:.2g}"
    return found if task.verdict == "not told apart" else f"{found}: **{task.verdict}**"


def _grid(columns: list[str], rows: Iterable[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
