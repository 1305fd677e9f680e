"""What the memory benchmark says, against sizes that follow from the shapes."""

import subprocess
import sys
from pathlib import Path

import pytest

from workbench.bench import measure_memory
from workbench.errors import WorkbenchError
from workbench.models import load, save
from workbench.ops.resident import STATUS


def test_pylm_in_four_bits_takes_what_the_bits_say() -> None:
    [row] = measure_memory(["pylm"], ["int4"])
    weights = 4 * (4 * 384 * 384 + 3 * 384 * 1024)  # four blocks of attention and MLP
    assert row.layers_before == 4 * weights
    # Groups of 128: half a byte a weight, a float32 scale and an int8 zero point a group; each
    # layer has two int64 of shape and an empty marker. In panels for the native kernels it ends in
    # 1024 spare bytes, which they may read.
    said = weights // 2 + weights // 128 * 5 + 28 * 16
    assert row.layers_after - said in (0, 28 * 1024)
    assert row.before - row.after == row.layers_before - row.layers_after


def test_what_cannot_be_measured_is_told() -> None:
    with pytest.raises(WorkbenchError, match=r"no-such in int8 could not be measured.*no model"):
        measure_memory(["no-such"], ["int8"])


@pytest.mark.slow
def test_freezing_peaks_at_the_float_model_and_one_layer(tmp_path: Path) -> None:
    """Floats on the heap of threads (pylm), and in a mapped file (minilm)."""
    alone = tmp_path / "minilm"  # in a file that no other process has mapped
    save(load("minilm").model, alone)
    for row in measure_memory(["pylm", str(alone)], ["int8", "int2"]):
        assert row.peak <= row.before + row.largest, row


@pytest.mark.exhaustive
def test_freezing_a_billion_parameters_peaks_at_the_float_model_and_one_layer() -> None:
    for row in measure_memory(["llama-1b"], ["int8", "int2"]):
        assert row.peak <= row.before + row.largest, row


@pytest.mark.skipif(not STATUS.exists(), reason="reads Linux's own figures")
def test_frozen_floats_are_given_back() -> None:
    """After freezing, the process holds about as much less as the model does."""
    program = """
from workbench.bench.memory import _nbytes, load, freeze, quantize
from workbench.ops.resident import resident
model = load("pylm").model
quantize(model, weights="int8")
before = _nbytes(model), resident()
freeze(model)
print(before[0] - _nbytes(model), before[1] - resident())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    model, process = map(int, done.stdout.split())
    assert process > 0.6 * model > 0  # the rest is what freezing imported and keeps ready
