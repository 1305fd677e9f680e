"""The table of Q8-Chat: its arithmetic, going on after an interruption, and what is refused."""

import json
from importlib import import_module
from io import StringIO

import pytest
from rich.console import Console
from tiny_models import llama

import workbench as wb
from workbench.cli import main
from workbench.compare import Difference
from workbench.scoreboard import Judged, judge, read_recipes, scoreboard_tables
from workbench.scoreboard.markdown import _evidence


def difference(task: str, degradation: float | None, verdict: str = "not told apart") -> Difference:
    return Difference(
        task=task, metric="acc", samples=10, reference=0.5, candidate=0.5, low=0, high=0, lost=1,
        won=1, p=1.0, degradation=degradation, verdict=verdict,
    )  # fmt: skip


def test_the_columns_of_the_table() -> None:
    tasks = [
        difference("a", -0.02),
        difference("b", 0.01),
        difference("c", 0.05, "worse"),
        difference("d", None),
    ]
    judged = Judged(name="m", model="m", recipe={}, tasks=tasks, bytes={}, speed={})
    assert judged.improved == 1 / 4
    assert judged.degradation == pytest.approx(0.01)
    assert [task.task for task in judged.serious] == ["c"]
    assert [task.task for task in judged.told_apart] == ["c"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("board") / "scores.json"


@pytest.fixture(scope="module")
def board(file):
    return judge({"int8": wb.Recipe(model="pylm")}, ["perplexity"], limit=12, report=file)


def test_a_model_beside_its_original(board, file) -> None:
    (judged,) = board.judged
    (task,) = judged.tasks
    assert (task.task, task.samples) == ("perplexity", 12)
    assert 2 < task.reference < 5
    assert abs(task.candidate - task.reference) < 0.2
    assert judged.bytes["quantized"] < judged.bytes["bf16"] < judged.bytes["fp32"]
    assert set(judged.speed) == {"fp32", "bf16", "quantized"}
    assert json.loads(file.read_text())["judged"][0]["name"] == "int8"
    screen = Console(width=220, file=StringIO())
    screen.print(*scoreboard_tables(board))
    text = screen.file.getvalue()
    assert "not told apart" in text or "worse" in text
    assert f"{task.reference:.4f}" in text


def test_the_same_as_markdown(board, file, tmp_path) -> None:
    """The command goes on from the file, so that nothing is measured, and writes the tables."""
    out = tmp_path / "scores.md"
    asked = ["--tasks", "perplexity", "--limit", "12", "--json", str(file), "--markdown", str(out)]
    assert main(["evaluate", "pylm", *asked]) == 0
    text = out.read_text()
    (task,) = board.judged[0].tasks
    assert "12 documents a task, seed 0." in text
    assert "Noise floor: of 6 timings" in text
    row = next(line for line in text.splitlines() if line.startswith("| perplexity"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["perplexity, nats per token", "12", f"{task.reference:.4f}"]
    assert cells[3].startswith(f"{task.candidate:.4f} ({task.low:+.4f} to {task.high:+.4f}")
    assert ("**" in cells[3]) == (task.verdict != "not told apart")
    assert main(["evaluate", "pylm", "--markdown", str(tmp_path)]) == 2


def test_flips_stand_in_a_cell_of_right_and_wrong_answers() -> None:
    told = difference("a", 0.05, "worse").model_copy(update={"lost": 9, "won": 0, "p": 0.0039})
    assert _evidence(told) == "-9 +0, p 0.0039: **worse**"
    assert _evidence(difference("b", 0.0)) == "-1 +1, p 1"


def test_what_is_known_is_not_measured_again(board, file, monkeypatch) -> None:
    def never(*_, **__):
        raise AssertionError("measured again")

    module = import_module("workbench.scoreboard.judge")
    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate", never)
        patch.setattr(module, "measure_all", never)
        again = judge({"int8": wb.Recipe(model="pylm")}, ["perplexity"], limit=12, report=file)
        assert again.judged == board.judged
        with pytest.raises(AssertionError):  # another limit is another measurement
            judge({"int8": wb.Recipe(model="pylm")}, ["perplexity"], limit=13, report=file)


def test_a_file_that_is_no_scoreboard_is_left_alone(tmp_path) -> None:
    file = tmp_path / "notes.json"
    file.write_text('{"mine": 1}')
    with pytest.raises(wb.WorkbenchError, match="not a scoreboard"):
        judge({"a": wb.Recipe(model="pylm")}, report=file)
    assert file.read_text() == '{"mine": 1}'
    with pytest.raises(wb.WorkbenchError, match="cannot be written"):
        judge({"a": wb.Recipe(model="pylm")}, report=file / "scores.json")


def test_recipes_by_file_and_by_model(tmp_path) -> None:
    file = tmp_path / "o1.json"
    wb.Recipe(model="pylm").with_scheme("o1").save(file)
    found = read_recipes([str(file), "minilm"])
    assert found[str(file)].scheme == "o1"
    assert found["minilm"].model == "minilm"


def test_the_same_recipe_and_seed_give_the_same_numbers(tiny_folder, tmp_path) -> None:
    model = llama(32, max_position_embeddings=256)
    folder = wb.save(model, tmp_path / "model", tokenizer=wb.load(tiny_folder).tokenizer)
    recipe = wb.Recipe().with_model(str(folder)).with_calibration(samples=4, length=32)
    boards = [judge({"tiny": recipe}, ["perplexity"], limit=4, seed=3) for _ in range(2)]
    first, again = (board.judged[0] for board in boards)
    assert first.tasks == again.tasks
    assert first.bytes == again.bytes
    assert first.tasks[0].reference != first.tasks[0].candidate
    assert (
        f"{first.tasks[0].candidate:.4f}" in boards[0]._repr_markdown_()
    )  # as a notebook shows it
