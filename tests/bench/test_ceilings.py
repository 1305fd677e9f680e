"""Ceilings are measured with each number of threads, and caches are read where Linux tells."""

import pytest
import torch

from workbench.bench import ceilings as module
from workbench.bench.caches import ASSUMED, caches
from workbench.bench.ceilings import Ceiling, best, ceilings
from workbench.bench.layers import LayerReport


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(module, "SIDE", 64)
    monkeypatch.setattr(module, "MEMORY", 2**20)
    monkeypatch.setattr(module, "LEAST_S", 0.01)
    monkeypatch.setattr(module, "caches", lambda: ASSUMED)


def test_every_ceiling_with_each_number_of_threads(small) -> None:
    before = torch.get_num_threads()
    found = ceilings((1, 2))
    assert torch.get_num_threads() == before
    names = {(one.name, one.threads) for one in found}
    for name in ("fp32_matmul", "bf16_matmul", "int8_matmul", "read_l2", "read_memory"):
        assert {(name, 1), (name, 2)} <= names
    assert all(one.value > 0 for one in found)
    document = LayerReport(rows=[], ceilings=found).model_dump(mode="json")
    assert document["ceilings"]["read_memory, threads 2"]["unit"] == "GB/s"
    assert LayerReport.model_validate(document).ceilings == found


def test_the_better_of_two_measurements_counts() -> None:
    low, high = (Ceiling(name="a", value=value, unit="GB/s", threads=1) for value in (1.0, 2.0))
    assert best([low], [high]) == best([high], [low]) == [high]


def test_caches_are_read_as_linux_writes_them(tmp_path) -> None:
    for index, (level, kind, size) in enumerate(
        [
            (1, "Data", "48K"),
            (1, "Instruction", "32K"),
            (2, "Unified", "2048K"),
            (3, "Unified", "1G"),
        ]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    found = caches(tmp_path)
    assert (found.l2, found.last) == (2 * 2**20, 2**30)


def test_unknown_caches_are_assumed_and_said_so(tmp_path) -> None:
    assert "assumed" in caches(tmp_path / "none").source
