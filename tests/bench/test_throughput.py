"""Which forms, batch sizes and numbers of instances the benchmark of throughput runs."""

import pickle
from importlib import import_module

import pytest
import torch

import workbench as wb
from workbench.bench import measure_throughput
from workbench.bench.throughput_table import throughput_table
from workbench.compare import Throughput
from workbench.compare.machine import usable_cores
from workbench.errors import WorkbenchError
from workbench.quant import QLinear


def test_every_form_batch_size_and_number_of_instances(monkeypatch) -> None:
    cores = len(usable_cores())
    asked = []

    def instead(load, batches, *, instances, threads) -> Throughput:
        model = pickle.loads(pickle.dumps(load))()
        asked.append((model, len(batches), len(batches[0]["input_ids"]), instances, threads))
        return Throughput(
            instances=instances, threads=threads, samples=64, rounds=2, samples_per_second=1,
            low=1, high=1, p50_ms=1, p99_ms=1, bytes=None, joules=None,
        )  # fmt: skip

    monkeypatch.setattr(import_module("workbench.bench.throughput"), "throughput", instead)
    recipe = wb.Recipe(model="pylm").with_scheme("o1").with_calibration(samples=2, length=16)
    report = measure_throughput({"int8": recipe}, [1, 32], [1])
    forms = ["fp32", "bf16", "quantized"]
    assert [(r.form, r.batch_size) for r in report.rows] == [(f, n) for n in (1, 32) for f in forms]
    assert [one[1:] for one in asked] == [(64, 1, 1, cores)] * 3 + [(2, 32, 1, cores)] * 3
    fp32, bf16, quantized = (one[0] for one in asked[:3])
    assert (fp32.dtype, bf16.dtype) == (torch.float32, torch.bfloat16)
    assert any(isinstance(module, QLinear) for module in quantized.modules())
    cells = {column.header: list(column.cells) for column in throughput_table(report).columns}
    assert cells["J a sample"] == ["not exposed"] * 6
    assert cells["instances x threads"] == [f"1 x {cores}"] * 6


def test_more_instances_than_cores_are_refused() -> None:
    with pytest.raises(WorkbenchError, match="one for each core"):
        measure_throughput({}, [1], [len(usable_cores()) + 1])
    with pytest.raises(WorkbenchError, match="batches of at least 1"):
        measure_throughput({}, [0])
