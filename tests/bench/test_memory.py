"""What the memory benchmark says, against sizes that follow from the shapes."""

import pytest

from workbench.bench import measure_memory
from workbench.errors import WorkbenchError


def test_pylm_in_four_bits_takes_what_the_bits_say() -> None:
    [row] = measure_memory(["pylm"], ["int4"])
    weights = 4 * (4 * 384 * 384 + 3 * 384 * 1024)  # four blocks of attention and MLP
    assert row.layers_before == 4 * weights
    # Groups of 128: half a byte a weight, a float32 scale and an int8 zero point a group; each
    # layer has two int64 of shape and an empty marker.
    assert row.layers_after == weights // 2 + weights // 128 * 5 + 28 * 16
    assert row.before - row.after == row.layers_before - row.layers_after


def test_what_cannot_be_measured_is_told() -> None:
    with pytest.raises(WorkbenchError, match=r"no-such in int8 could not be measured.*no model"):
        measure_memory(["no-such"], ["int8"])


@pytest.mark.slow
def test_freezing_peaks_at_the_float_model_and_one_layer() -> None:
    for dtype in ("int8", "int4"):
        [row] = measure_memory(["llama-1b"], [dtype])
        assert row.peak <= row.before + row.largest
