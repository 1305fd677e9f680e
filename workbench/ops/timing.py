"""How long calls take, as measured here."""

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter

import torch


def milliseconds(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """The median time of each of `calls` on `device` in so many rounds, after one to warm up.

    They take turns, so that what else the machine does slows all of them alike.
    """
    waits = torch.device(device).type != "cpu"
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = perf_counter()
            call()
            if waits:
                torch.accelerator.synchronize(device)
            found[name].append(1e3 * (perf_counter() - start))
    return {name: median(each[1:]) for name, each in found.items()}
