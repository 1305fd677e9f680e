"""FastFormers' measurement in small: the steps, the sample of the slow ones, the command."""

import json

import pytest

import workbench as wb
from workbench.cli import main
from workbench.compress import Target
from workbench.waterfall import boolq

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


@pytest.mark.slow
def test_the_command_times_every_step(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(boolq, "TEACHER", SMALL | {"num_hidden_layers": 4})
    monkeypatch.setattr(boolq, "STUDENT", SMALL)
    monkeypatch.setattr(boolq, "PRUNING", Target(heads=2, units=32, even=True))
    rows = [
        {"passage": "word " * length, "question": "is it so", "label": length % 2 == 0}
        for length in (5, 60, 20, 90, 40, 700)
    ]
    data = tmp_path / "val.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    figures, picture = tmp_path / "b.json", tmp_path / "b.svg"
    arguments = ["bench", "boolq", "--data", str(data), "--slow", "2", "--threads", "1"]
    arguments += ["--instances", "1", "--engines", "workbench"]
    assert main([*arguments, "--json", str(figures), "--chart", str(picture)]) == 0
    found = wb.Waterfall.load(figures)
    assert [len(row.milliseconds) for row in found.rows] == [2, 2, 6, 6, 6, 6, 6]
    assert found.rows[0].milliseconds.keys() == found.rows[1].milliseconds.keys()
    assert all(row.right is None for row in found.rows)
    assert [row.instances.batch for row in found.rows[-2:]] == [1, 4]
    assert found.rows[3].parameters < found.rows[2].parameters < found.rows[0].parameters
    assert "random" in capsys.readouterr().out
    assert picture.read_text().startswith("<svg")
    assert main([*arguments[:3], str(tmp_path / "none.jsonl")]) == 2
    assert main(["compress", str(tmp_path / "none.json"), "--out", str(tmp_path / "o")]) == 2
