"""What every step of making a model smaller brought, as measured: the data of table and picture."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from workbench import metrics
from workbench.models.atomic import write_text
from workbench.models.document import read_document

REQUESTS = 100_000_000  # what a cost is told for, as FastFormers does
HOUR = 3600.0


class Instances(BaseModel):
    """Several processes on the same requests: throughput, which is not latency.

    Each takes `batch` requests at a time, which the percentiles of time are of. `joules` are the
    processor's for one request, None where the machine does not show them.
    """

    model_config = ConfigDict(frozen=True)
    instances: int
    threads: int
    batch: int = 1
    samples_per_second: float
    low: float
    high: float
    p50_ms: float
    p99_ms: float
    joules: float | None


class Row(BaseModel):
    """One variant, measured request by request at batch 1, in turns with the others.

    `milliseconds` has the time of each example by its number in the set: all of them, or the sample
    that a slow variant was given. `right` says of each example whether the answer was, None where
    the set has no labels that the model was trained for. `padded` inputs are all of the maximum
    length. `parent` names the row that this step improves on.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    step: str
    engine: str
    padded: bool
    parameters: int
    bytes: int
    milliseconds: dict[int, float]
    right: dict[int, bool] | None
    parent: str | None = None
    instances: Instances | None = None

    @property
    def seconds(self) -> float:
        """For all examples that were measured, one after the other."""
        return sum(self.milliseconds.values()) / 1e3

    def percentile(self, share: float) -> float:
        """The time of a request in ms that this share of them stays below."""
        ordered = sorted(self.milliseconds.values())
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def faster_than(self, other: "Row") -> float:
        """How many times, over the examples that both were given."""
        both = self.milliseconds.keys() & other.milliseconds.keys()
        return sum(other.milliseconds[i] for i in both) / sum(self.milliseconds[i] for i in both)

    @property
    def accuracy(self) -> float | None:
        """The share of right answers."""
        return None if self.right is None else sum(self.right.values()) / len(self.right)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the accuracy lies at 95 % (Wilson 1927)."""
        if self.right is None:
            return None
        from scipy import stats

        found = stats.binomtest(sum(self.right.values()), len(self.right))
        low, high = found.proportion_ci(method="wilson")
        return float(low), float(high)

    def flips(self, teacher: "Row") -> metrics.Flips | None:
        """Answers that the teacher alone got right, those that it did not, and McNemar's p."""
        if self.right is None or teacher.right is None:
            return None
        both = sorted(self.right.keys() & teacher.right.keys())
        return metrics.mcnemar([teacher.right[i] for i in both], [self.right[i] for i in both])

    def factor(self, baseline: "Row") -> float:
        """How many times the requests of `baseline` this gets through; by all instances, if any."""
        latency = self.faster_than(baseline)
        if self.instances is None:
            return latency
        alone = 1e3 * len(self.milliseconds) / sum(self.milliseconds.values())
        return latency * self.instances.samples_per_second / alone

    def cost(self, price_per_hour: float) -> float:
        """Of 100 million requests on this machine at a price of an hour of it, in that currency."""
        if self.instances is not None:
            each = 1 / self.instances.samples_per_second
        else:
            each = self.seconds / len(self.milliseconds)
        return each * REQUESTS / HOUR * price_per_hour


class Waterfall(BaseModel):
    """The rows in the order of the steps, the first padded, and what they depend on.

    `examples` are those of the whole set; `notes` say what a reader must know before any figure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal["workbench-waterfall-1"] = "workbench-waterfall-1"
    title: str
    rows: list[Row]
    examples: int
    length: int
    price_per_hour: float
    notes: list[str]
    machine: dict[str, Any]
    versions: dict[str, str]

    @property
    def padded(self) -> Row:
        """The baseline whose inputs are all of the maximum length."""
        return next(row for row in self.rows if row.padded)

    @property
    def unpadded(self) -> Row:
        """The same model on inputs of their own lengths."""
        return next(row for row in self.rows if not row.padded)

    def before(self, row: Row) -> Row | None:
        """The row that `row` improves on."""
        return next((one for one in self.rows if one.name == row.parent), None)

    @property
    def judged(self) -> list[Row]:
        """The rows with an accuracy and the time of one request after the other."""
        return [row for row in self.rows if row.right is not None and row.instances is None]

    @property
    def front(self) -> list[Row]:
        """The judged rows that no faster one is as accurate as, the fastest first.

        By the figures as measured: what lies on it by less than the intervals may be chance.
        """
        best: list[Row] = []
        most = -1.0
        for row in sorted(self.judged, key=lambda row: row.seconds):
            if row.accuracy is not None and row.accuracy > most:
                best, most = [*best, row], row.accuracy
        return best

    def save(self, path: Path | str) -> None:
        """Write the document to `path`; raises WorkbenchError, the old file untouched."""
        write_text(Path(path), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; raises WorkbenchError where the file is something else."""
        return read_document(
            cls,
            path,
            "{path} is no waterfall that this version reads; make it anew: workbench compress",
        )

    def _repr_html_(self) -> str:
        from workbench.waterfall.page import html

        return html(self)
