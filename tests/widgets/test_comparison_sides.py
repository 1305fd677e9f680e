"""Two sides against each other without a browser: what is measured, kept, said and refused."""

import math
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import workbench as wb
from workbench.compare import bytes_on_disk, compare, measure_all
from workbench.errors import WorkbenchError
from workbench.session import History, pairing
from workbench.session.build import evaluation_batches
from workbench.widgets import ComparisonView
from workbench.widgets._answers import answered
from workbench.widgets._sides import quality_words


def losses(model, batches) -> list[float]:
    """Nats a token of each sequence; all of one length."""
    with torch.no_grad():
        return [
            F.cross_entropy(model(input_ids=row[None]).logits[0, :-1], row[1:]).item()
            for batch in batches
            for row in batch["input_ids"]
        ]


def test_float_against_the_recipe_in_force(session, tmp_path) -> None:
    view = ComparisonView(session)
    assert (view.a, view.b, view.measured) == ("float", "current", {})
    job = view.pair().wait(60)
    assert job.state == "done", job.error
    found = view.measured

    batches = evaluation_batches(session.loaded, session.recipe)
    a, b = losses(session.loaded.model, batches), losses(session.model, batches)
    mean = sum(b) / len(b) - sum(a) / len(a)
    assert found["quality"]["difference"] == pytest.approx(mean, rel=1e-4)
    assert found["quality"]["low"] <= mean <= found["quality"]["high"]
    assert found["quality"]["sequences"] == len(a)

    rows = {row["key"]: (row["a"], row["b"]) for row in found["rows"]}
    assert rows["perplexity"] == pytest.approx(
        (math.exp(sum(a) / len(a)), math.exp(sum(b) / len(b)))
    )
    assert rows["kl"][0] == 0
    spared = sum(layer.float_bytes - layer.bytes for layer in session.plan.layers)
    assert rows["bytes"] == (session.loaded.bytes, session.loaded.bytes - spared)
    saved = session.save(tmp_path / "saved")
    assert rows["disk"][1] == pytest.approx(bytes_on_disk(saved), abs=64)
    assert rows["disk"][0] > rows["disk"][1]

    expected = compare(session.loaded.model, session.model, batches).layers
    assert [layer["name"] for layer in found["layers"]] == [layer.name for layer in expected]
    for drawn, layer in zip(found["layers"], expected, strict=True):
        assert drawn["a"] is None  # the float model has no error
        assert drawn["b"] == pytest.approx(layer.sqnr_db)
    assert [entry["key"] for entry in found["latency"]] == ["prefill", "decode"]
    for entry in found["latency"]:
        assert len(entry["a"]["samples"]) == len(entry["b"]["samples"]) == pairing.TIMINGS


def test_an_earlier_run_against_the_recipe_in_force(session, monkeypatch) -> None:
    session.compare()
    first, earlier = session.recipe, session.comparison
    session.update(session.recipe.with_weights(bits=2))
    view = ComparisonView(session, a=first.digest())
    assert view.a == first.digest()
    monkeypatch.setattr(pairing, "TIMINGS", 3)
    assert view.pair().wait(60).state == "done"
    pair = pairing.known_pair(session, view.a, view.b)
    assert (pair.a.recipe, pair.b.recipe) == (first, session.recipe)
    assert pair.a.comparison == earlier
    assert pair.b.comparison.kl > earlier.kl
    assert session.history.get(session.runs[-1].key).recipe == session.recipe  # a point of its own
    own = evaluation_batches(session.loaded, session.recipe)
    built = pairing.build_side(session, first).model
    assert sum(losses(built, own)) / 16 == pytest.approx(pair.quality.reference, rel=1e-4)
    assert built is pairing.build_side(session, first).model
    shared = {id(tensor) for tensor in session.loaded.model.parameters()}
    assert shared & {id(tensor) for tensor in built.parameters()}

    monkeypatch.setattr(pairing, "measure_all", None)  # what was measured is not measured again
    assert session.pair(view.a, view.b) is pair
    view.set_state({"a": "float"})
    assert view.measured == {}
    view.set_state({"a": first.digest()})
    view.swap()
    assert (view.a, view.b) == ("current", first.digest())
    assert view.measured == {}
    view.swap()
    assert view.measured["quality"]["words"] == quality_words(pair)
    session.update(session.recipe.with_alpha(0.9))
    assert view.measured == {}
    assert session.others
    session.update(session.recipe.with_model("another"))
    assert session.pairs == session.others == {}  # nothing holds the old model


def test_a_side_against_itself_is_not_told_apart(session, monkeypatch) -> None:
    monkeypatch.setattr(pairing, "TIMINGS", 3)
    pair = session.pair("current", "current")
    assert pair.quality.low == pair.quality.high == 0
    assert quality_words(pair).startswith("A and B are not told apart")


@pytest.mark.parametrize(
    ("sides", "reason"), [(("float", "float"), "both sides"), (("float", "1234"), "no side '1234'")]
)
def test_sides_that_cannot_be_measured_are_refused(session, sides, reason) -> None:
    session.load()
    with pytest.raises(WorkbenchError, match=reason):
        session.pair(*sides)
    assert session.pairs == {}
    assert session.stage == "loaded"


@pytest.mark.parametrize(
    ("ratio", "words"),
    [((1.2, 1.1, 1.3), "B takes 1.2 times"), ((1.2, 0.9, 1.3), "A and B are not told apart")],
)
def test_a_ratio_is_told_only_where_its_interval_excludes_one(ratio, words) -> None:
    from workbench.widgets._sides import speed_words

    ratio = pairing.Ratio(**dict(zip(("ratio", "low", "high"), ratio, strict=True)))
    assert speed_words(ratio, 15).startswith(words)


def test_both_go_on_with_a_text_and_part_where_their_tokens_do() -> None:
    session = wb.Session(wb.Recipe(model="pylm").with_alpha(None).with_scheme("none"))
    session.update(session.recipe.with_weights(bits=2))
    view = ComparisonView(session)
    job = view.answer("def area(width, height):\n").wait(120)
    assert job.state == "done", job.error
    found, loaded = view.answers, session.loaded
    prompt = loaded.tokenizer("def area(width, height):\n", return_tensors="pt")["input_ids"]
    told = []
    for model in (loaded.model, session.model):
        with torch.no_grad():
            out = model.generate(input_ids=prompt, max_new_tokens=48, do_sample=False)
        told.append(out[0, prompt.shape[1] :].tolist())
    texts = [loaded.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in told]
    assert [found["a"], found["b"]] == [
        text.removesuffix("\N{REPLACEMENT CHARACTER}") for text in texts
    ]
    at = next(i for i, (x, y) in enumerate(zip(*told, strict=False)) if x != y)
    assert found["same_tokens"] == at
    assert found["common"] == len(loaded.tokenizer.decode(told[0][:at], skip_special_tokens=True))
    assert found["a"][: found["common"]] == found["b"][: found["common"]]
    assert view.answer("  ").wait(60).state == "failed"
    assert "empty" in view.error
    session.update(session.recipe.with_weights(bits=8))
    assert view.answers == {}
    session.close()


def test_an_encoder_is_asked_how_alike_two_texts_are() -> None:
    vectors = {"one": torch.eye(2), "two": torch.tensor([[1.0, 0.0], [0.6, 0.8]])}
    loaded = SimpleNamespace(kind="encoder", embed=lambda model, texts: vectors[model])
    found = answered(loaded, "one", "two", "a cat", "a dog")
    assert found == {"kind": "encoder", "a": 0.0, "b": pytest.approx(0.6)}
    with pytest.raises(WorkbenchError, match="empty"):
        answered(loaded, "one", "two", "a cat", "")


def test_a_classifier_is_asked_for_its_likeliest_classes() -> None:
    config = SimpleNamespace(id2label={0: "bad", 1: "good"})
    loaded = SimpleNamespace(
        kind="classifier",
        model=SimpleNamespace(config=config),
        text_batches=lambda texts: [{"texts": texts}],
    )

    def model(shares):
        return lambda **_: SimpleNamespace(logits=torch.tensor([shares]).log())

    found = answered(loaded, model([0.25, 0.75]), model([0.6, 0.4]), "fine", "")
    assert [row["label"] for row in found["a"]] == ["good", "bad"]
    assert [row["probability"] for row in found["b"]] == pytest.approx([0.6, 0.4])


def test_what_an_earlier_session_measured_is_read_again(session, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pairing, "TIMINGS", 3)
    session.history = History(tmp_path / "history.sqlite")
    pair = session.pair()
    assert any(math.isinf(layer.sqnr_db) for layer in pair.a.comparison.layers)
    later = wb.Session(session.recipe, history=History(tmp_path / "history.sqlite"))
    monkeypatch.setattr(pairing, "measure_all", None)
    assert later.pair() == pair
    assert later.history.problem == ""
    with closing(sqlite3.connect(tmp_path / "history.sqlite")) as base, base:
        base.execute("UPDATE pairs SET document = '{}'")
    monkeypatch.setattr(pairing, "measure_all", measure_all)
    another = wb.Session(session.recipe, history=History(tmp_path / "history.sqlite"))
    assert another.pair().key == pair.key  # measured anew, as the document says nothing
    with closing(sqlite3.connect(tmp_path / "history.sqlite")) as base, base:
        base.execute("DROP TABLE pairs")
    assert History(tmp_path / "history.sqlite").pair(pair.key) is None
