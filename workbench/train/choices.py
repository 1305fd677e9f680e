"""What a trainer switched on, why, and what each brought: data, and a table."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict
from rich.table import Table

from workbench.models.atomic import write_text
from workbench.models.document import read_document

FILE = "accelerators.json"
Verdict = Literal["kept", "does not pay", "does not apply", "not tried", "failed"]


class Choice(BaseModel):
    """One accelerator: the verdict, why, and where it was timed how many times faster a step was.

    `ratio` is on top of those kept before it, and `error` its standard error. `first_s` is by how
    many seconds its first steps took longer than later ones: what compiling took.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    verdict: Verdict
    reason: str
    ratio: float | None = None
    error: float | None = None
    first_s: float = 0.0


class Choices(BaseModel):
    """All choices of a run; `ratio` is all that were kept against none, timed at the end.

    `step_s` is a step of transformers' trainer in the trial, `seconds` what the trial took.
    `micro_batch` is how many rows memory held at once, where it could not hold as many as asked.
    """

    model_config = ConfigDict(frozen=True)
    rows: tuple[Choice, ...] = ()
    ratio: float | None = None
    error: float | None = None
    step_s: float | None = None
    seconds: float = 0.0
    micro_batch: int | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """The names that are switched on, in order."""
        return tuple(row.name for row in self.rows if row.verdict == "kept")

    def save(self, folder: Path) -> None:
        """Write the choices beside a checkpoint."""
        write_text(folder / FILE, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read those of a checkpoint; None where it has none."""
        path = folder / FILE
        if not path.is_file():
            return None
        return read_document(
            cls, path, "{path} is damaged: {reason}. Remove it, and the trainer chooses anew"
        )

    def table(self) -> Table:
        """The choices for a terminal."""
        caption = f"chosen in {self.seconds:.0f} s"
        if self.ratio is not None and self.step_s is not None:
            caption = (
                f"all together x {told(self.ratio, self.error)} of {1e3 * self.step_s:.0f} ms "
                f"a step; {caption}"
            )
        table = Table(
            title="How this run is made faster",
            title_justify="left",
            caption=caption,
            caption_justify="left",
        )
        table.add_column("accelerator")
        table.add_column("verdict")
        table.add_column("x faster", justify="right")
        table.add_column("first steps, s", justify="right")
        table.add_column("because", overflow="fold")
        for row in self.rows:
            first = f"{row.first_s:.1f}" if row.first_s >= 0.1 else ""
            table.add_row(row.name, row.verdict, told(row.ratio, row.error), first, row.reason)
        return table


def told(ratio: float | None, error: float | None) -> str:
    """A ratio with twice its standard error."""
    if ratio is None:
        return ""
    return f"{ratio:.2f}" if error is None else f"{ratio:.2f} ±{2 * error:.2f}"


def ratio_of(before: Iterable[float], after: Iterable[float]) -> tuple[float, float]:
    """The ratio of the sums of paired times, and its standard error by leaving out one pair each.

    Needs at least two pairs (Efron and Stein's jackknife).
    """
    pairs = list(zip(before, after, strict=True))
    a, b = (sum(one) for one in zip(*pairs, strict=True))
    count = len(pairs)
    left = [(a - x) / (b - y) for x, y in pairs]
    mean = sum(left) / count
    variance = (count - 1) / count * sum((one - mean) ** 2 for one in left)
    return a / b, variance**0.5
