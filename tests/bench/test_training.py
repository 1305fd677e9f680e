"""The comparison of trainers: processes that take turns, honest rows, refusals before any work."""

import copy
from xml.etree import ElementTree as ET

import pytest
import torch

from tests.bench.made_report import made_report
from workbench.bench import training_chart
from workbench.bench.training import train_bench
from workbench.bench.training_report import PLAIN, TrainReport
from workbench.bench.training_subjects import Material
from workbench.bench.training_tables import training_sentences, training_table
from workbench.cli import main
from workbench.console import console
from workbench.errors import WorkbenchError
from workbench.train.accelerators import accelerators

SVG = "{http://www.w3.org/2000/svg}"


def material(llama, **changes) -> Material:
    """Rows of one length, in a list: what any process can read."""
    torch.manual_seed(0)
    rows = [{"input_ids": ids, "labels": ids} for ids in torch.randint(1, 97, (48, 12))]
    parts = {"model": llama, "train_dataset": rows[:32], "eval_dataset": rows[32:]} | changes
    return Material(**parts)


@pytest.mark.slow
def test_each_accelerator_runs_beside_transformers_on_the_same_rows(tiny_llama) -> None:
    names = ["heap", "attention", "by_length"]
    before = copy.deepcopy(tiny_llama.state_dict())
    report = train_bench(
        material(tiny_llama), accelerate=names, steps=16, batch=2, seeds=1, threads=1
    )
    rows = {row.name: row for row in report.rows}
    assert set(rows) == {PLAIN, "all", "heap", "attention"}
    assert "all rows have one length" in report.failed["by_length"]
    assert rows["all"].kept == ("heap", "attention")
    plain = rows[PLAIN]
    assert plain.ratio == 1
    for row in rows.values():
        assert len(row.losses) == 16
        assert row.losses == pytest.approx(plain.losses, rel=1e-4)  # the same rows, in one order
        assert row.held_out == pytest.approx(plain.held_out, rel=1e-4)
        assert row.tokens_s == pytest.approx(12 * row.samples_s)
        assert row.ratio > 0
    for name, value in tiny_llama.state_dict().items():  # trained were copies
        assert torch.equal(value, before[name])


def test_refusals_come_before_any_process(tiny_llama, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("workbench.bench.training._all_runs", None)
    with pytest.raises(WorkbenchError, match="'warp' is unknown"):
        train_bench("pylm", accelerate=["warp"])
    with pytest.raises(WorkbenchError, match="nothing to train named 'gpt'"):
        train_bench("gpt")
    with pytest.raises(WorkbenchError, match="steps is 3"):
        train_bench("pylm", steps=3)
    with pytest.raises(WorkbenchError, match="each is at least 1"):
        train_bench("pylm", seeds=0)
    with pytest.raises(WorkbenchError, match="SST-2 with --data"):
        train_bench("minilm", data=tmp_path)
    with pytest.raises(WorkbenchError, match="cannot be handed to another process"):
        train_bench(material(tiny_llama, data_collator=lambda rows: rows))


@pytest.fixture
def report() -> TrainReport:
    return made_report()


def test_the_table_puts_the_fastest_first_and_losers_are_named(report) -> None:
    screen = console()
    screen.width = 200
    with screen.capture() as captured:
        screen.print(training_table(report))
    lines = captured.get().splitlines()
    order = [
        line for name in (PLAIN, "bf16", "compile", "heap") for line in lines if f"│ {name}" in line
    ]
    assert [lines.index(line) for line in order] == sorted(lines.index(line) for line in order)
    assert any("compile" in line and " 30 " in line and "0.40" in line for line in lines)
    said = " ".join(training_sentences(report))
    assert "Slower: heap, x 0.80" in said
    assert "Slower: bf16" not in said
    assert "Did not run: packing. All rows have one length." in said


def test_the_picture_has_a_bar_and_a_curve_for_each_run(report, tmp_path) -> None:
    path = tmp_path / "picture.svg"
    training_chart.save_chart(report, path)
    picture = ET.parse(path).getroot()
    widths = {float(r.get("width")) for r in picture.iter(f"{SVG}rect")}
    unit = training_chart.BARS / 1.84
    for ratio in (1.0, 1.8, 1.3, 0.8):
        assert any(w == pytest.approx(ratio * unit, abs=0.1) for w in widths)
    assert len(list(picture.iter(f"{SVG}polyline"))) == 5
    with pytest.raises(WorkbenchError, match="svg or"):
        training_chart.save_chart(report, tmp_path / "picture.png")


def test_every_colour_is_seen_on_white_and_on_a_dark_page() -> None:
    """Three to one at least, as Web Content Accessibility Guidelines ask of graphics (1.4.11)."""

    def luminance(colour: str) -> float:
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.03928 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    inks = [training_chart.ink(i) for i in range(len(accelerators) + 2)]
    assert len(set(inks)) == len(inks)
    for colour, _ in inks:
        for ground in ("#ffffff", "#111111"):  # JupyterLab's, light and dark
            low, high = sorted(map(luminance, (colour, ground)))
            assert (high + 0.05) / (low + 0.05) >= 3


def test_the_report_is_read_back(report, tmp_path) -> None:
    path = tmp_path / "figures.json"
    report.save(path)
    assert TrainReport.load(path) == report
    path.write_text('{"steps": "many"}')
    with pytest.raises(WorkbenchError, match="holds no comparison of trainers"):
        TrainReport.load(path)
    with pytest.raises(WorkbenchError, match="cannot be read"):
        TrainReport.load(tmp_path / "none.json")


def test_the_command_refuses_what_it_cannot_do(tmp_path, capsys) -> None:
    assert main(["train-bench", "gpt"]) == 2
    assert "allowed: minilm, pylm" in capsys.readouterr().err
    assert main(["train-bench", "pylm", "--chart", str(tmp_path / "a.png")]) == 2
    assert ".svg or .html" in capsys.readouterr().err
