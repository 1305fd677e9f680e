"""The choice of data, and what the panel tells of freezing; traits in, state out."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.models.text import files
from workbench.widgets import CalibrationPanel
from workbench.widgets._uploads import LIMIT

TEXT = "\n".join(f"value_{i} = other * {i}" for i in range(50))
SHA256 = hashlib.sha256(TEXT.encode()).hexdigest()


@pytest.fixture
def panel(session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text(TEXT)
    return CalibrationPanel(session)


def test_a_text_file_is_named_in_the_recipe_by_path_and_content(session, panel) -> None:
    panel.set_state({"source": "file"})
    assert session.recipe.calibration.text is None  # nothing is named yet
    panel.set_state({"samples": 5})
    assert panel.source == "file"  # and the choice outlives another edit
    panel.set_state({"text": "mine.txt"})
    assert session.recipe.calibration.source == {"text": "mine.txt", "text_sha256": SHA256}
    assert f"text='mine.txt', text_sha256='{SHA256}'" in session.code()
    panel.set_state({"source": "bundled"})
    assert session.recipe.calibration.source == {}
    assert panel.text == ""


def test_naming_a_file_in_python_chooses_its_source(session, panel) -> None:
    panel.text = "mine.txt"
    assert panel.source == "file"
    assert session.recipe.calibration.text == "mine.txt"
    with pytest.raises(WorkbenchError, match=r"none\.txt cannot be read"):
        panel.text = "none.txt"
    assert session.recipe.calibration.text == "mine.txt"


def test_evaluation_text_is_refused_in_place(session, panel) -> None:
    name, text = next(iter(files("evaluation").items()))
    Path("held_out.txt").write_text(text)
    before = session.recipe
    panel.set_state({"source": "file", "text": "held_out.txt"})
    assert f"shares lines with the evaluation text {name}" in panel.error
    panel._pressed(None, {"call": "upload", "arguments": ["x.txt", _base64(text), 9]}, [])
    assert "shares lines with the evaluation text" in panel.error
    assert session.recipe == before
    assert not Path("uploads").exists()


def test_a_data_set_is_named_with_subset_and_column(session, panel) -> None:
    panel.set_state({"source": "dataset"})
    panel.set_state({"dataset": "owner/name"})
    panel.set_state({"subset": "small"})
    panel.set_state({"column": "body"})
    source = {"dataset": "owner/name", "subset": "small", "column": "body"}
    assert session.recipe.calibration.source == source
    assert "dataset='owner/name', subset='small', column='body'" in session.code()


def test_an_upload_is_kept_beside_the_notebook_and_calibrates(session, panel) -> None:
    panel._pressed(
        None, {"call": "upload", "arguments": ["a b/my file é.py", _base64(TEXT), 9]}, []
    )
    assert panel.error == ""
    path = Path(session.recipe.calibration.text)
    assert path.parent == Path("uploads")
    assert path.name == f"my_file-{SHA256[:8]}.py"
    assert path.read_text() == TEXT
    assert session.recipe.calibration.text_sha256 == SHA256
    assert panel.source == "upload"
    assert panel.upload("mine.txt", TEXT.encode()) == Path(f"uploads/mine-{SHA256[:8]}.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["big.txt", "", LIMIT + 1], "1,000,001 bytes; allowed: 1,000,000"),
        (["big.txt", "A" * (2 * LIMIT), 5], "allowed: 1,000,000"),
        (["cat.png", base64.b64encode(b"\x89PNG\r\n").decode(), 6], "'cat.png'.*UTF-8"),
        (["empty.txt", "", 0], "'empty.txt' is empty"),
        (["x.txt", "%%%", 3], "arrived damaged"),
    ],
)
def test_bad_uploads_are_refused_in_words(session, panel, arguments, message) -> None:
    before = session.recipe
    panel._pressed(None, {"call": "upload", "arguments": arguments}, [])
    assert re.search(message, panel.error)
    assert session.recipe == before
    assert not Path("uploads").exists()


def test_a_visitor_uploads_but_names_no_path_and_no_data_set(panel, session, monkeypatch) -> None:
    monkeypatch.setenv("WORKBENCH_SERVED", "1")
    visitor = CalibrationPanel(session)
    assert visitor.sources == ["bundled", "upload"]
    for edit in ({"text": "mine.txt"}, {"source": "file"}, {"dataset": "owner/name"}):
        visitor.set_state(edit)
        assert "upload a text file" in visitor.error
    assert session.recipe.calibration.source == {}
    visitor.upload("mine.txt", TEXT.encode())
    path = Path(session.recipe.calibration.text)
    assert path.read_text() == TEXT
    assert not Path("uploads").exists()
    assert visitor.text == path.name  # not where the server keeps it


def test_what_freezing_changed_is_what_the_model_holds(session, panel) -> None:
    assert panel.changes == panel.left == []
    session.freeze()
    rows = {row["key"]: row for row in panel.changes}
    float_model, model = session.loaded.model, session.model
    names = [layer.name for layer in session.plan.layers if layer.scheme != "float"]
    before = sum(4 * float_model.get_submodule(n).weight.numel() for n in names)
    after = sum(
        b.numel() * b.element_size() for n in names for b in model.get_submodule(n).buffers()
    )
    assert rows["layers"]["after"] == f"{len(names)} of {len(session.plan.layers)}"
    assert (rows["layer_bytes"]["before"], rows["layer_bytes"]["after"]) == (before, after)
    whole = sum(4 * p.numel() for p in float_model.parameters())
    assert rows["model_bytes"]["after"] == whole - before + after
    assert rows["bits"]["after"] == "8 bits"
    assert rows["activations"]["after"] == "o3 (per tensor, static)"
    assert {op.split(" (")[0] for op in rows["ops"]["after"].split(", ")} == {
        layer.op for layer in session.plan.layers if layer.scheme != "float"
    }
    assert "model.embed_tokens.weight" in {row["name"] for row in panel.left}
    session.update(session.recipe.with_scheme("none"))
    assert panel.changes == panel.left == []


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
