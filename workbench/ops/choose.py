"""Which implementation of an op computes a layer on this machine, and why."""

from collections.abc import Callable, Mapping
from functools import cache, partial

import torch
from torch import Tensor

from workbench.ops import native
from workbench.ops.registry import Implementation, Layer, implementations
from workbench.ops.timing import milliseconds
from workbench.ops.weights import by_panel

ROWS = (1, 128)  # of activations, as in decoding and in a prompt
MARGIN = 0.9  # of the time of the one expected to be faster, which noise must not beat
ROUNDS = 5
MOST_ROWS = 2048  # of the weight, when measuring: more of them change no ratio

Run = Callable[[Tensor], object]


def select(
    op: str, device: str, layer: Layer, pinned: str | None = None
) -> tuple[Implementation, str]:
    """Choose the implementation of `op` for `layer` on a device type; return it and the reason.

    Implementations of one op compute the same bits, so where several are quick the faster one is
    taken, as measured here once for each shape; `pinned` names the one to take if it can. Raises
    RuntimeError where none can run.
    """
    for one in implementations:
        if one.name == pinned and one.op == op and one.obstacle(device, layer) is None:
            return one, f"{one.what}, pinned"
    return _select(op, device, layer, torch.get_num_threads(), native_level())


def native_level() -> str | None:
    """The level of the native kernels in use, None without them."""
    return native.status().level


@cache
def _select(
    op: str, device: str, layer: Layer, threads: int, level: str | None
) -> tuple[Implementation, str]:
    able: list[Implementation] = []
    passed_over: list[str] = []
    for one in implementations:
        if one.op == op:
            obstacle = one.obstacle(device, layer)
            able.append(one) if obstacle is None else passed_over.append(f"{one.name}: {obstacle}")
    if not able:
        raise RuntimeError(f"no implementation of {op} runs on {device}: {'; '.join(passed_over)}")
    quick = [one for one in able if one.quick]
    chosen, why = able[0], able[0].what + (f" ({level})" if able[0].panels else "")
    if len(quick) > 1 and device == "cpu":
        chosen, why = _fastest(quick, layer, threads)
    return chosen, "; ".join([why, *passed_over])


def _fastest(quick: list[Implementation], layer: Layer, threads: int) -> tuple[Implementation, str]:
    smaller = Layer(**{**vars(layer), "rows": min(layer.rows, MOST_ROWS)})
    times = measured({one.name: _on_numbers(one, smaller) for one in quick}, layer.columns)
    chosen = quick[0]
    for other in quick[1:]:
        if is_faster(times[other.name], times[chosen.name]):
            chosen = other
    return chosen, told(times, threads)


def _on_numbers(one: Implementation, layer: Layer) -> Run:
    """What `one` does with a weight like that of `layer`."""
    g = torch.Generator().manual_seed(0)
    values = torch.randint(-127, 128, (layer.rows, layer.columns), generator=g, dtype=torch.int8)
    scale = torch.ones(1) if layer.whole else torch.ones(layer.rows, 1)
    data = native.pack(values, layer.bits) if one.panels else values
    scale = by_panel(scale) if one.panels else scale
    run = one.overload
    return lambda x: run(x, data, scale, None, layer.bits, layer.rows, layer.columns)


def measured(
    runs: Mapping[str, Run],
    columns: int,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> dict[str, list[float]]:
    """Median milliseconds of each of `runs` for each of `ROWS`, on inputs [tokens, columns]."""
    g = torch.Generator().manual_seed(0)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for tokens in ROWS:
        x = torch.randn(tokens, columns, generator=g).to(device, dtype)
        calls = {name: partial(run, x) for name, run in runs.items()}
        for name, found in milliseconds(calls, ROUNDS, device).items():
            times[name].append(found)
    return times


def faster(times: list[float], others: list[float]) -> list[int]:
    """Those of `ROWS` for which `times` are shorter than `others` by more than noise."""
    each = zip(ROWS, times, others, strict=True)
    return [tokens for tokens, a, b in each if a < MARGIN * b]


def is_faster(times: list[float], others: list[float]) -> bool:
    """Whether `times` are shorter than `others`, every one, by more than noise."""
    return len(faster(times, others)) == len(ROWS)


def told(times: Mapping[str, list[float]], threads: int) -> str:
    """What `measured` found, in words."""
    each = ", ".join(
        f"{name} {' and '.join(f'{t:.3f}' for t in found)} ms" for name, found in times.items()
    )
    return (
        f"measured here for {' and '.join(map(str, ROWS))} tokens with {threads} "
        f"thread{'s' if threads > 1 else ''}: {each}"
    )
