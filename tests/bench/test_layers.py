"""The benchmark of layers on tiny shapes: what its rows say, what it refuses, what it keeps."""

import json
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from workbench.bench import LayerReport, LayerRow, measure_layers
from workbench.bench import engines as registry
from workbench.bench.caches import caches
from workbench.bench.engines.ours import Workbench
from workbench.bench.layers import Shape, _copies, judge
from workbench.bench.schemes import Scheme
from workbench.bench.tables import layer_sentences, layer_tables
from workbench.cli import main
from workbench.console import console
from workbench.errors import WorkbenchError

FAST = ("torch fp32", "torch bf16", "workbench")
KEYS = {
    "engine", "op", "bits", "group_size", "m", "k", "n", "threads", "cold",
    "ms_median", "ms_min", "sqnr_db",
}  # fmt: skip


@pytest.fixture(scope="module")
def report() -> LayerReport:
    return measure_layers(
        ["3x128x64"], threads=[1], group_size=32, names=FAST, seconds=0, with_ceilings=False,
        cold=False,
    )  # fmt: skip


def test_a_row_for_every_scheme(report: LayerReport) -> None:
    found = {(row.engine, row.op, row.bits): row for row in report.rows}
    ours = {"w8", "w8a8", "w8a8-static", "w4", "w4a8", "w2", "w2a8"}
    assert {op for engine, op, _ in found if engine == "workbench"} == ours
    assert ("torch fp32", "float", 32) in found
    assert ("torch bf16", "float", 16) in found
    for row in report.rows:
        assert (row.m, row.k, row.n, row.threads, row.cold) == (3, 128, 64, 1, False)
        assert 0 < row.ms_min <= row.ms_median
        assert math.isfinite(row.sqnr_db)
        assert row.group_size == (32 if row.bits in (4, 2) else None)
    assert not report.failures
    assert not report.refused


def test_speeds_follow_from_the_times(report: LayerReport) -> None:
    row = next(row for row in report.rows if row.op == "w4")
    seconds = row.ms_median / 1e3
    assert row.gops == pytest.approx(2 * 3 * 128 * 64 / seconds / 1e9)
    assert row.packed_gb_s == pytest.approx(128 * 64 / 2 / seconds / 1e9)


def test_json_keeps_everything(report: LayerReport, tmp_path) -> None:
    path = tmp_path / "made" / "layers.json"
    report.save(path)
    document = json.loads(path.read_text())
    assert document["rows"][0].keys() >= KEYS
    assert {"rows", "ceilings", "machine", "versions", "absent"} <= document.keys()
    assert document["machine"]["last_level_bytes"] > 0
    assert document["versions"]["torch"] == torch.__version__
    assert LayerReport.model_validate(document) == report


class Wrong(Workbench):
    """Ours, with a mistake in it."""

    def __init__(self, mistake: Callable[[Tensor], Tensor]) -> None:
        self.mistake = mistake

    def convert(
        self, model: nn.Module, scheme: Scheme, calibrate: Callable[[nn.Module], object]
    ) -> nn.Module:
        return nn.Sequential(super().convert(model, scheme, calibrate), Apply(self.mistake))


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


MISTAKES = {
    "one scale off by two percent": lambda y: y * 1.02,
    "a column of zeros": lambda y: torch.cat([torch.zeros_like(y[:, :1]), y[:, 1:]], 1),
    "not a number": lambda y: y * float("nan"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_kernel_of_ours_fails_the_benchmark(mistake, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setitem(registry.engines, "workbench", Wrong(MISTAKES[mistake]))
    monkeypatch.setattr("workbench.bench.layers.ceilings", lambda threads: [])
    path = tmp_path / "found.json"
    what = ["--shapes", "3x128x64", "--engines", "workbench", "--bits", "8", "--warm"]
    how = ["--threads", "1", "--seconds", "0", "--json", str(path)]
    status = main(["bench", "layers", *what, *how])
    assert status == 2
    error = capsys.readouterr().err
    assert "workbench w8a8, 3x128x64, 1 thread(s), warm: SQNR" in error
    assert path.exists(), "the figures are kept all the same"


def test_a_layer_left_in_float_is_not_the_scheme_it_says() -> None:
    """Better than its arithmetic is wrong too: something else ran."""
    row = _row(engine="workbench", sqnr_db=52.0, expected_sqnr_db=(22.9, 23.0))
    assert "its arithmetic gives 22.90 to 23.00 dB" in str(judge(row))
    assert judge(row.model_copy(update={"sqnr_db": 23.4})) is None
    assert judge(row.model_copy(update={"engine": "quanto"})) is None


def _row(**values: object) -> LayerRow:
    plain = {
        "ms_median": 1, "ms_min": 1, "ms_low": 1, "ms_high": 1, "runs": 5, "drift": 0,
        "op": "w4", "bits": 4, "group_size": 128, "threads": 1, "dtype": "bfloat16",
        "m": 1, "k": 1, "n": 1, "cold": False, "copies": 1,
    }  # fmt: skip
    return LayerRow.model_validate({**plain, **values})


def test_a_peer_that_computes_something_else_is_named(report: LayerReport) -> None:
    row = _row(engine="openvino", sqnr_db=-5.0, expected_sqnr_db=(23.0, 23.0))
    told = " ".join(layer_sentences(report.model_copy(update={"rows": [row]})))
    assert "Wrong: openvino w4 g128" in told
    assert "-5.0 dB where its arithmetic gives 23.00" in told


def test_an_absent_engine_is_named_with_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr(type(registry.engines["openvino"]), "package", "no_such_package")
    found = measure_layers(
        ["1x64x32"], [8], threads=[1], names=["torch fp32", "openvino"], cold=False, seconds=0,
        with_ceilings=False,
    )  # fmt: skip
    assert {row.engine for row in found.rows} == {"torch fp32"}
    told = " ".join(layer_sentences(found))
    assert "Absent: openvino. no_such_package is not installed" in told
    assert "pip install 'quantization-workbench[peers]'" in told


def test_what_an_engine_cannot_do_is_named() -> None:
    if registry.engines["quanto"].obstacle():
        pytest.skip("quanto is not installed")
    found = measure_layers(
        ["1x64x32"], [4], 64, threads=[1], names=["quanto"], cold=False, seconds=0,
        with_ceilings=False,
    )  # fmt: skip
    assert not found.rows
    assert "Refused: quanto w4. WorkbenchError: quanto groups by 128, not by 64" in " ".join(
        layer_sentences(found)
    )


@pytest.mark.parametrize("shape", ["12", "1x2", "0x4x4", "axbxc", "-1x4x4"])
def test_a_shape_that_is_none_is_refused(shape: str) -> None:
    with pytest.raises(WorkbenchError, match="is not MxKxN"):
        Shape.parse(shape)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(WorkbenchError, match="no engine 'tensorrt'; allowed: torch fp32"):
        measure_layers(["1x64x32"], names=["tensorrt"], with_ceilings=False)


def test_copies_of_cold_weights_do_not_fit_the_cache() -> None:
    shape = Shape(m=1, k=4096, n=4096)
    for bits in (32, 16, 8, 4, 2):
        size = shape.k * shape.n * bits // 8
        count = _copies(shape, Scheme("any", bits))
        assert count >= 2
        assert count * size >= min(4 * caches().last, 512 * 2**20)
        assert (count - 1) * size <= max(4 * caches().last, size)


def test_the_table_says_what_was_measured(report: LayerReport) -> None:
    screen = console()
    with screen.capture() as capture:
        for table in layer_tables(report):
            screen.print(table)
    text = capture.get()
    assert "3 x 128 x 64, 1 thread, warm weights" in text
    assert "noise: between odd and even rounds" in text
    for word in ("w8a8-static", "w4 g32", "x fp32", "x bf16", "SQNR, dB"):
        assert word in text
