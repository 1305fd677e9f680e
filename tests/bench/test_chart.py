"""The picture is well-formed, says what it shows, and asks for nothing from elsewhere."""

import itertools
from xml.etree import ElementTree as ET

import pytest

from workbench.bench import LayerReport, measure_layers
from workbench.bench.chart import save_chart, svg
from workbench.errors import WorkbenchError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def report() -> LayerReport:
    return measure_layers(
        ["1x128x64", "2x128x64"], threads=[1], names=["torch fp32", "torch bf16", "workbench"],
        cold=False, seconds=0, with_ceilings=False,
    )  # fmt: skip


def test_a_panel_for_each_case_and_a_mark_for_each_time(report: LayerReport) -> None:
    root = ET.fromstring(svg(report))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "1 x 128 x 64, 1 thread, warm weights" in texts
    assert "2 x 128 x 64, 1 thread, warm weights" in texts
    marks = [element.text or "" for element in root.iter(f"{SVG}title")]
    # In each panel: torch at 32 and 16 bits, ours at 8, 4 and 2 with either kind of activations.
    assert len(marks) == 2 * (2 + 3 + 3)
    fastest = min(
        row.ms_median for row in report.rows if row.m == 1 and row.op in ("w8a8", "w8a8-static")
    )
    assert f"workbench, 8 bits, int8 activations: {fastest:.3g} ms" in marks


def test_marks_lie_inside_their_panel_and_lower_is_faster(report: LayerReport) -> None:
    root = ET.fromstring(svg(report))
    for group in root.iter(f"{SVG}g"):
        places = []
        for circle in group.iter(f"{SVG}circle"):
            title = circle.find(f"{SVG}title")
            assert title is not None
            assert title.text is not None
            places.append((float(title.text.split()[-2]), float(circle.get("cy", "nan"))))
            assert 0 < float(circle.get("cx", "nan")) < 380
            assert 0 < float(circle.get("cy", "nan")) < 300
        # Times are told with three digits, which is less than two pixels.
        for (_, slow), (_, slower) in itertools.pairwise(sorted(places)):
            assert slower < slow + 2


def test_a_page_needs_no_network(report: LayerReport, tmp_path) -> None:
    path = tmp_path / "chart.html"
    save_chart(report, path)
    text = path.read_text()
    assert text.startswith("<!doctype html>")
    assert text.count("http") == 1, "the name of SVG's namespace only"
    assert "<script" not in text


def test_other_endings_are_refused(report: LayerReport, tmp_path) -> None:
    with pytest.raises(WorkbenchError, match=r"\.svg or \.html, not as 'chart\.png'"):
        save_chart(report, tmp_path / "chart.png")
