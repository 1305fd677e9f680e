"""Text that a user brings: read as it is, refused in words, never what models are judged on."""

import hashlib
import json

import pytest

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.models import own_text
from workbench.models.text import files, sentences

TEXT = "\n".join(f"value_{i} = {i} * {i} + other" for i in range(400))


@pytest.fixture(scope="module")
def lm():
    return wb.load("pylm")


def tokens(batches):
    return [row.tolist() for batch in batches for row in batch["input_ids"]]


def test_a_file_is_cut_into_its_own_tokens(lm, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(TEXT)
    found = tokens(lm.batches("calibration", length=32, text=path))
    ids = lm.tokenizer(TEXT, add_special_tokens=False, verbose=False)["input_ids"]
    assert [token for row in found for token in row] == ids[: 32 * (len(ids) // 32)]


def test_a_digest_admits_one_content_only(lm, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(TEXT)
    sha256 = hashlib.sha256(TEXT.encode()).hexdigest()
    assert lm.batches("calibration", length=32, text=path, text_sha256=sha256)
    path.write_text(TEXT + "\n")
    with pytest.raises(WorkbenchError, match=f"holds another text.*{sha256} is wanted"):
        lm.batches("calibration", length=32, text=path, text_sha256=sha256)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"ab\0cd", "zero bytes"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, content, message):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(WorkbenchError, match=message):
        own_text.read_text(path)
    with pytest.raises(WorkbenchError, match="cannot be read"):
        own_text.read_text(tmp_path / "missing.txt")


def test_the_pinned_splits_pass_their_own_rule():
    for name, text in files("calibration").items():
        own_text.refuse_held_out(text, name)
    own_text.refuse_held_out("\n".join(sentences("calibration")), "s", by_sentence=True)


@pytest.mark.parametrize("part", [slice(None), slice(40, 60)], ids=["whole", "a part"])
def test_calibrating_on_evaluation_text_is_refused(lm, tmp_path, part):
    name, text = max(files("evaluation").items(), key=lambda item: len(item[1]))
    path = tmp_path / "mine.py"
    path.write_text(TEXT + "\n" + "\n".join(text.splitlines()[part]) + "\n" + TEXT)
    with pytest.raises(
        WorkbenchError, match=f"mine.py shares lines with the evaluation text {name}"
    ):
        lm.batches("calibration", length=32, text=path)
    assert lm.batches("evaluation", length=32, text=path)


def test_calibrating_on_evaluation_sentences_is_refused(tmp_path):
    own_text.refuse_held_out("Nobody has ever written this sentence before.", "x", by_sentence=True)
    with pytest.raises(WorkbenchError, match="shares lines with the evaluation text"):
        own_text.refuse_held_out(
            "A first line.\n" + sentences("evaluation")[3], "x", by_sentence=True
        )


def test_a_data_set_by_name_gives_the_same_tokens_as_its_text(lm, tmp_path):
    pytest.importorskip("datasets")
    rows = TEXT.splitlines()
    with (tmp_path / "train.jsonl").open("w") as file:
        file.writelines(json.dumps({"body": row, "stars": 3}) + "\n" for row in rows)
    found = lm.batches("calibration", length=16, dataset=str(tmp_path), column="body")
    ids = [i for row in rows for i in lm.tokenizer(row, add_special_tokens=False)["input_ids"]]
    assert [t for row in tokens(found) for t in row] == ids[: 16 * (len(ids) // 16)]
    with pytest.raises(WorkbenchError, match="no text in column 'stars'; columns of text: body"):
        lm.batches("calibration", dataset=str(tmp_path), column="stars")


def test_a_data_set_that_is_not_there_is_refused_in_words(lm, monkeypatch):
    pytest.importorskip("datasets")
    with pytest.raises(WorkbenchError, match="'/no/such/folder' cannot be read"):
        lm.batches("calibration", dataset="/no/such/folder")
    with pytest.raises(WorkbenchError, match="exclude each other"):
        lm.batches("calibration", dataset="a", text="b")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(WorkbenchError, match="needs the package datasets"):
        lm.batches("calibration", dataset="a")


def test_a_model_that_reads_no_text_says_so(lm):
    blind = wb.LoadedModel("vit", lm.model, None, "encoder", "", None)
    with pytest.raises(WorkbenchError, match=r"vit has no tokenizer.*batches of your own"):
        blind.batches("calibration")
