"""The report: what it measures, what it flags, what it refuses."""

import json
import math
from importlib import import_module

import pytest

import workbench as wb
from workbench.cli import main
from workbench.compare import machine, versions
from workbench.report import Report, page
from workbench.scoreboard import Kept, Scoreboard


def test_it_says_all_that_was_measured(made) -> None:
    (task,), (cast,) = made.judged.tasks, made.judged.bf16
    assert (task.task, task.samples) == ("perplexity", 8)
    assert cast.reference == task.reference
    assert abs(cast.candidate - cast.reference) < 0.02
    assert made.judged.bytes["quantized"] < made.judged.bytes["bf16"]
    assert {layer.name for layer in made.comparison.layers} >= {
        layer.name for layer in made.plan.layers
    }
    for form in ("fp32", "quantized"):
        times = made.layer_times[form]
        assert set(times.layers) >= {layer.name for layer in made.plan.layers}
        assert 0 < sum(times.share(name) for name in times.layers) < 1
        assert made.judged.speed[form].peak_bytes >= 0
    assert [one.name for one in made.inputs]
    for one in made.inputs:
        assert one.ratio == pytest.approx(max(one.loudest.values()) / one.median)
    assert made.notices == []
    assert made.machine == machine()
    assert made.versions == versions()


def test_a_script_and_a_command_make_it_again(made, recipe) -> None:
    assert made.judged.recipe == recipe.model_dump(mode="json")
    assert made.code == recipe.to_code()
    assert made.command == ("workbench report recipe.json --out report.html --seed 0 --limit 8")


def test_the_json_holds_everything(made, tmp_path) -> None:
    file = tmp_path / "report.json"
    made.save(file)
    again = Report.load(file)
    assert again == made
    assert page(again) == page(made)


def test_a_layer_without_error_survives_json(made, tmp_path) -> None:
    layers = [one.model_copy(update={"sqnr_db": math.inf}) for one in made.comparison.layers]
    comparison = made.comparison.model_copy(update={"layers": layers})
    perfect = made.model_copy(update={"comparison": comparison})
    json.loads(perfect.to_json(), parse_constant=pytest.fail)  # strict JSON
    perfect.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == perfect


def test_another_machine_is_flagged_at_the_head(made) -> None:
    moved = made.model_copy(
        update={"machine": made.machine | {"processor": "Abacus 9"},
                "versions": made.versions | {"torch": "1.0"}}
    )  # fmt: skip
    head, _, _ = page(moved).partition("<h2>")
    assert "Measured on another machine: processor Abacus 9, here" in head
    assert "Measured with other versions: torch 1.0, here" in head
    assert "Measured on another" not in page(made)


def test_kept_figures_of_another_machine_are_flagged(tmp_path) -> None:
    scores = tmp_path / "scores.json"
    board = Scoreboard(
        judged=[], limit=None, seed=0, threads=1, machine=machine() | {"processor": "Abacus 9"},
        versions=versions(), kept=Kept(),
    )  # fmt: skip
    scores.write_text(board.model_dump_json())
    _, notices = import_module("workbench.report.measure")._kept(scores)
    (notice,) = notices
    assert "scores.json may come from elsewhere" in notice
    assert "Abacus 9" in notice


def test_a_checkpoint_that_its_recipe_does_not_make_is_flagged(tmp_path) -> None:
    measure = import_module("workbench.report.measure")
    session = wb.Session("pylm")
    try:
        model = session.freeze()
        folder = session.save(tmp_path / "int8")
        assert measure.read_source(folder) == (session.recipe, folder)
        assert measure._otherwise(folder, model) == []
        norm = model.get_submodule("model.norm")
        norm.weight = type(norm.weight)(norm.weight + 1)
        (notice,) = measure._otherwise(folder, model)
        assert "int8 is not what its recipe makes" in notice
        assert "1 of" in notice
        assert "model.norm.weight" in notice
    finally:
        session.close()
    (folder / "recipe.json").unlink()
    with pytest.raises(wb.WorkbenchError, match=r"without recipe\.json"):
        wb.report(folder)


def test_the_command_draws_a_stored_report_without_measuring(made, tmp_path, capsys) -> None:
    made.save(tmp_path / "report.json")
    out = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "report.json"), "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == page(made)
    assert str(out) in capsys.readouterr().out


def test_what_cannot_be_done_is_told_and_leaves_the_old_file(
    made, tmp_path, monkeypatch, capsys
) -> None:
    stored, out = tmp_path / "report.json", tmp_path / "report.html"
    made.save(stored)
    out.write_text("old")
    assert main(["report", "pylm", "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert main(["report", "no-such-model", "--out", str(out)]) == 2
    assert "no-such-model" in capsys.readouterr().err
    stored.write_text('{"format": "workbench-report-1"}')
    assert main(["report", str(stored), "--out", str(out)]) == 2
    assert "not a report that this version reads" in capsys.readouterr().err
    made.save(stored)

    def full(*_args: object, **_keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    assert main(["report", str(stored), "--out", str(out)]) == 2
    assert f"{out} cannot be written: No space left on device" in capsys.readouterr().err
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
