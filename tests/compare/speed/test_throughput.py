"""Several instances at once: what is counted, what is refused, and what an instance's end does."""

import os
import time
from functools import partial

import pytest
import torch

from workbench.compare.machine import usable_cores
from workbench.compare.speed import energy, model_named, throughput
from workbench.errors import WorkbenchError
from workbench.progress import Cancelled, reporting

minilm = partial(model_named, "minilm")


def batches(count: int, rows: int = 3) -> list[dict[str, torch.Tensor]]:
    ids = torch.arange(1000, 1000 + 8 * rows).view(rows, 8)
    return [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}] * count


def test_two_instances_share_the_batches() -> None:
    if len(usable_cores()) < 2:
        pytest.skip("needs two cores")
    before = os.sched_getaffinity(0), torch.get_num_threads()
    found = throughput(minilm, batches(6), instances=2, threads=1, rounds=2)
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == before
    assert (found.instances, found.threads, found.samples, found.rounds) == (2, 1, 18, 2)
    assert found.low <= found.samples_per_second <= found.high
    assert 0 < found.p50_ms <= found.p99_ms
    assert found.bytes is None or found.bytes > 4 * 22_000_000


def test_what_does_not_fit_is_refused() -> None:
    many = len(usable_cores()) + 1
    for instances, threads in ((many, 1), (1, many), (0, 1), (1, 0)):
        with pytest.raises(WorkbenchError, match="together no more than"):
            throughput(minilm, batches(1), instances=instances, threads=threads)
    with pytest.raises(WorkbenchError, match="there are 0 batches"):
        throughput(minilm, [], instances=1, threads=1)


def test_an_instance_that_fails_is_told_of() -> None:
    with pytest.raises(WorkbenchError, match="there is no model 'no such'"):
        throughput(partial(model_named, "no such"), batches(1), instances=1, threads=1)


def test_an_instance_that_is_killed_is_told_of() -> None:
    with pytest.raises(WorkbenchError, match="ended from outside"):
        throughput(partial(os._exit, 1), batches(1), instances=1, threads=1)


def test_cancel_leaves_no_process() -> None:
    import multiprocessing

    class Impatient:
        def update(self, what: str, done: int, total: int | None) -> None:
            """Not told."""

        def check(self) -> None:
            raise Cancelled("enough")

    start = time.monotonic()
    with reporting(Impatient()), pytest.raises(Cancelled):
        throughput(minilm, batches(1), instances=1, threads=1)
    assert time.monotonic() - start < 30
    assert multiprocessing.active_children() == []


def counter(folder, name: str, value: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{value}\n")
    (folder / "max_energy_range_uj").write_text("10000000\n")


def test_energy_is_that_of_packages_and_survives_a_counter_that_begins_anew(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    assert energy.counters() is None
    assert energy.joules(None, None) is None
    first, second, core = (tmp_path / f"intel-rapl:{n}" for n in ("0", "1", "0:0"))
    counter(first, "package-0", 1_000_000)
    counter(second, "package-1", 9_500_000)
    counter(core, "core", 7)  # a part of its package
    before = energy.counters()
    counter(first, "package-0", 3_000_000)
    counter(second, "package-1", 500_000)
    counter(core, "core", 5_000_000)
    assert energy.joules(before, energy.counters()) == pytest.approx(2 + 1)
