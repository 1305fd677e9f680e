"""One linear layer in many engines: how long it takes, and how much of it survives."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, computed_field
from torch import Tensor, nn

from workbench.bench.arithmetic import TOLERANCE_DB, Expected, expected_sqnr_db, float_product
from workbench.bench.caches import caches
from workbench.bench.ceilings import best, ceilings
from workbench.bench.engines import Engine, Layer, Run, engines, quiet
from workbench.bench.race import Timing, race
from workbench.bench.report import Failure, Report, Row
from workbench.bench.schemes import Scheme, schemes
from workbench.compare import machine
from workbench.errors import WorkbenchError
from workbench.metrics import sqnr_db
from workbench.ops.threads import torch_threads
from workbench.progress import track

SHAPES = ("512x4096x4096", "128x768x3072", "1x4096x4096")
COLD_ROWS = 8  # up to so many rows of input reading weights is the work, and cold ones count
COLD_TIMES = 4  # the copies of a cold layer's weights together fill the last level so many times
COLD_MOST = 512 * 2**20  # bytes of one contender's copies, where the last level is huge
MOST_COPIES = 256
LEAST_ROUNDS = 5


class Shape(BaseModel):
    """M rows of K inputs, N outputs."""

    model_config = ConfigDict(frozen=True)
    m: int
    k: int
    n: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "MxKxN". Raises WorkbenchError for anything else."""
        parts = text.lower().split("x")
        if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise WorkbenchError(
                f"shape {text!r} is not MxKxN (rows x inputs x outputs), such as 512x4096x4096"
            )
        m, k, n = map(int, parts)
        return cls(m=m, k=k, n=n)


class LayerRow(Row):
    """One engine, scheme, shape, number of threads and state of the caches.

    `cold` weights come from memory, as in a model that is larger than the caches; `copies` of the
    layer take turns for it. `sqnr_db` is against the float64 product of the float weights;
    `expected_sqnr_db` what the scheme's arithmetic gives, as this project defines it. `detail`
    names what ran, where the engine tells.
    """

    dtype: str
    m: int
    k: int
    n: int
    cold: bool
    copies: int
    sqnr_db: float
    expected_sqnr_db: Expected | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def gops(self) -> float:
        """10^9 multiplications and additions a second, at the median."""
        return 2 * self.m * self.k * self.n / self.ms_median / 1e6

    @computed_field  # type: ignore[prop-decorator]
    @property
    def packed_gb_s(self) -> float:
        """GB a second of `bits` for each weight (scales left out), at the median."""
        return self.k * self.n * self.bits / 8 / self.ms_median / 1e6


class LayerReport(Report[LayerRow]):
    """Every row of a run, with what it was measured on."""


@torch.no_grad()  # as `generate` of transformers runs, and all peers can
def measure_layers(
    shapes: Iterable[str] = SHAPES,
    bits: Iterable[int] = (8, 4, 2),
    group_size: int = 128,
    threads: Sequence[int] = (),
    dtype: torch.dtype = torch.bfloat16,
    names: Iterable[str] = (),
    cold: bool | None = None,
    seconds: float = 150.0,
    with_ceilings: bool = True,
) -> LayerReport:
    """Measure one linear layer of each shape in each engine and scheme, in turns.

    `threads` (default: 1 and all cores), `names` of engines (default: all), `cold` weights only,
    warm only, or (None) warm ones and, up to 8 rows of input, cold ones too. `seconds` is shared by
    the shapes for timing; building comes on top, and every shape gets at least 5 rounds. Raises
    WorkbenchError for what cannot be read; a row of ours below its arithmetic is in `failures`.
    """
    parsed = [Shape.parse(shape) for shape in shapes]
    counts = tuple(threads) or default_threads()
    chosen, absent = pick(names)
    found = schemes(bits, group_size)
    cases = [
        (shape, count, state)
        for shape in parsed
        for count in counts
        for state in _states(shape, cold)
    ]
    first = ceilings(counts) if with_ceilings else []
    rows: list[LayerRow] = []
    refused: list[Failure] = []
    for shape in parsed:
        layers, missing = _build(shape, chosen, found, dtype)
        refused += missing
        for _, count, state in (case for case in cases if case[0] == shape):
            rows += _measure(layers, shape, count, state, seconds / len(cases))
    second = ceilings(counts) if with_ceilings else []
    return LayerReport(
        rows=rows,
        ceilings=best(first, second),
        absent=absent,
        refused=refused,
        failures=[complaint for row in rows if (complaint := judge(row))],
    )


def judge(row: LayerRow) -> str | None:
    """Say what is wrong with a row whose SQNR is not what its arithmetic gives, if it is."""
    if row.expected_sqnr_db is None or not engines[row.engine].ours:
        return None
    least, most = row.expected_sqnr_db
    if least - TOLERANCE_DB <= row.sqnr_db <= most + TOLERANCE_DB:  # a NaN is no less wrong
        return None
    return (
        f"{row.engine} {row.op}, {row.m}x{row.k}x{row.n}, {row.threads} thread(s), "
        f"{'cold' if row.cold else 'warm'}: SQNR {row.sqnr_db:.2f} dB, but its arithmetic gives "
        f"{told(row.expected_sqnr_db)} dB (allowed: {TOLERANCE_DB} dB off)"
    )


def told(expected: Expected) -> str:
    """A range of SQNR as a reader wants it."""
    least, most = (f"{value:.2f}" for value in expected)
    return least if least == most else f"{least} to {most}"


def default_threads() -> tuple[int, ...]:
    """One thread, and all cores that this process may use."""
    return tuple(sorted({1, int(str(machine()["cores"]))}))


def pick(names: Iterable[str]) -> tuple[list[Engine], dict[str, str]]:
    """The engines of these names (default: all) that run here, and why the others do not.

    Raises WorkbenchError for a name that no engine has.
    """
    asked = list(names) or list(engines)
    unknown = [name for name in asked if name not in engines]
    if unknown:
        raise WorkbenchError(f"no engine {unknown[0]!r}; allowed: {', '.join(engines)}")
    obstacles = {name: engines[name].obstacle() for name in asked}
    chosen = [engines[name] for name, obstacle in obstacles.items() if obstacle is None]
    return chosen, {name: obstacle for name, obstacle in obstacles.items() if obstacle}


@dataclass(frozen=True)
class _Contender:
    """A layer in an engine, with what does not depend on threads or caches."""

    engine: Engine
    scheme: Scheme
    layer: Layer
    x: Tensor
    truth: Tensor
    expected: Expected | None

    @property
    def name(self) -> str:
        return f"{self.engine.name} {self.scheme.op} {self.scheme.bits}"


def _build(
    shape: Shape, chosen: Iterable[Engine], found: Iterable[Scheme], dtype: torch.dtype
) -> tuple[list[_Contender], list[Failure]]:
    """Quantize one random layer in every engine; name what an engine refused."""
    linear, x = sample(shape)
    made: list[_Contender] = []
    refused: list[Failure] = []
    expected: dict[tuple[Scheme, torch.dtype], Expected | None] = {}
    truths: dict[torch.dtype, Tensor] = {}
    pairs = [(e, s) for e in chosen for s in found if e.offers(s)]
    for engine, scheme in track(pairs, f"building {shape.m}x{shape.k}x{shape.n}"):
        taken = x.to(engine.dtype(scheme, dtype))
        try:
            with quiet():
                layer = engine.layer(linear, scheme, taken)
                layer.bind(taken, 1).call()
        except Exception as error:
            if engine.ours:
                raise
            refused.append(Failure.of(engine.name, scheme.op, error))
            continue
        key = (scheme, taken.dtype)
        if key not in expected:
            expected[key] = None if scheme.is_float else expected_sqnr_db(linear, taken, scheme)
        if taken.dtype not in truths:
            truths[taken.dtype] = float_product(linear, taken)
        truth = truths[taken.dtype]
        made.append(_Contender(engine, scheme, layer, taken, truth, expected[key]))
    return made, refused


def sample(shape: Shape) -> tuple[nn.Linear, Tensor]:
    """A layer and inputs, normal as trained weights nearly are; bfloat16 numbers held in float32.

    So engines that work in bfloat16 are given the same layer as those that work in float32.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).bfloat16().float()

    linear = nn.Linear(shape.k, shape.n).requires_grad_(False)
    linear.weight.copy_((normal(shape.n, shape.k) * shape.k**-0.5).bfloat16())
    linear.bias.copy_(normal(shape.n))
    return linear, normal(shape.m, shape.k)


def _measure(
    contenders: list[_Contender], shape: Shape, threads: int, cold: bool, seconds: float
) -> list[LayerRow]:
    if not contenders:
        return []
    what = (
        f"{shape.m}x{shape.k}x{shape.n}, {threads} thread{'s' if threads > 1 else ''}, "
        f"{'cold' if cold else 'warm'}"
    )
    with torch_threads(threads):
        runs: dict[str, list[Run]] = {}
        for one in track(contenders, f"copying {what}"):
            count = _copies(shape, one.scheme) if cold else 1
            runs[one.name] = [one.layer.bind(one.x, threads) for _ in range(count)]
        quality = {c.name: sqnr_db(c.truth, _result(runs[c.name][-1])) for c in contenders}
        calls = {name: [run.call for run in copies] for name, copies in runs.items()}
        timings = race(calls, seconds, what, LEAST_ROUNDS)
    return [
        _row(one, shape, threads, cold, len(runs[one.name]), timings[one.name], quality[one.name])
        for one in contenders
    ]


def _result(run: Run) -> Tensor:
    return run.output(run.call())


def _row(
    one: _Contender,
    shape: Shape,
    threads: int,
    cold: bool,
    copies: int,
    timing: Timing,
    quality: float,
) -> LayerRow:
    return LayerRow(
        engine=one.engine.name,
        op=one.scheme.op,
        bits=one.scheme.bits,
        group_size=one.scheme.group_size,
        dtype=str(one.x.dtype).removeprefix("torch."),
        **shape.model_dump(),
        threads=threads,
        cold=cold,
        copies=copies,
        sqnr_db=quality,
        expected_sqnr_db=one.expected,
        detail=one.layer.detail,
        **timing.model_dump(),
    )


def _states(shape: Shape, cold: bool | None) -> tuple[bool, ...]:
    if cold is not None:
        return (cold,)
    return (False, True) if shape.m <= COLD_ROWS else (False,)


def _copies(shape: Shape, scheme: Scheme) -> int:
    """How many copies of the weights no cache can hold together; at least two, to take turns."""
    size = shape.k * shape.n * scheme.bits / 8
    wanted = min(COLD_TIMES * caches().last, COLD_MOST)
    return max(2, min(MOST_COPIES, math.ceil(wanted / size)))
