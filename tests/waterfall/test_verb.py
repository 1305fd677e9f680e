"""The whole path on a tiny classifier: what is left, what is read when, and what is refused."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, set_seed

import workbench as wb
from workbench import WorkbenchError
from workbench.cli import main
from workbench.compress import Target
from workbench.recipe import Recipe
from workbench.recipe.compression import CompressionSpec
from workbench.waterfall import steps, texts, verb

WORDS = ["good", "fine", "lovely", "great", "bad", "awful", "dull", "poor"]


def write(path, count, seed) -> str:
    generator = torch.Generator().manual_seed(seed)
    rows = ["sentence\tlabel"]
    for _ in range(count):
        length = int(torch.randint(1, 9, (1,), generator=generator))
        words = torch.randint(0, 8, (length,), generator=generator).tolist()
        label = "nice" if sum(w < 4 for w in words) * 2 >= len(words) else "bad"
        rows.append(" ".join(WORDS[w] for w in words) + f"\t{label}")
    path.write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compress")


@pytest.fixture(scope="module")
def recipe(folder) -> Recipe:
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(wb.bundled["minilm"].folder())
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=32, id2label={0: "bad", 1: "nice"},
        label2id={"bad": 0, "nice": 1},
    )  # fmt: skip
    wb.save(BertForSequenceClassification(config), folder / "teacher", tokenizer=tokenizer)
    train = {"epochs": 2, "batch_size": 16, "learning_rate": 3e-3, "judgements": 2}
    task = {
        n: write(folder / f"{n}.tsv", c, c)
        for n, c in (("train", 96), ("held_out", 33), ("test", 20))
    }
    section = {
        "task": task | {"length": 24},
        "layers": [0, 2],
        "student": {"heads": 3, "units": 48},
        "training": train,
        "pruning": {"heads": 0.5, "units": 0.5},
        "repair": train,
        "score_on": 40,
        "threads": 1,
        "instances": 2,
    }
    document = {"model": str(folder / "teacher"), "smoothing": None, "compression": section}
    return Recipe.from_json(json.dumps(document))


@pytest.fixture(scope="module")
def whole(recipe, folder):
    """The figures of a run that nothing disturbed, in `out`, and what it did, in order."""
    events = []

    def told(name, plain):
        def tell(*args, **keywords):
            events.append((name, str(args[0]) if name == "read" else ""))
            return plain(*args, **keywords)

        return tell

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "read_table", told("read", texts.read_table))
        patch.setattr(steps, "distil", told("learn", steps.distil))
        patch.setattr(steps, "importance", told("score", steps.importance))
        return wb.compress(recipe, folder / "out"), events


@pytest.mark.slow
def test_every_step_is_made_and_measured(recipe, folder, whole) -> None:
    found, events = whole
    task = recipe.compression.task
    reads = [event for event in events if event[0] == "read"]
    assert sorted(reads) == sorted(("read", n) for n in (task.train, task.held_out, task.test))
    # The reported split is read after the last training and the last scoring.
    assert events[-1] == ("read", task.test)
    assert {name for name, _ in events} == {"read", "learn", "score"}

    assert [row.step for row in found.rows] == [
        "teacher", "dynamic length", "distilled", "pruned", "quantized", "quantized",
        "several instances", "sorted batches",
    ]  # fmt: skip
    *judged, batched = found.rows
    assert all(len(row.milliseconds) == len(row.right) == 20 for row in judged)
    assert batched.instances.batch == 4
    assert batched.parent == judged[-1].name
    assert batched.right is None  # judged one by one, and engines may round by the batch
    parameters = [row.parameters for row in found.rows]
    assert parameters[1] > parameters[2] > parameters[3] == parameters[4]
    back = wb.load(folder / "out" / "pruned")
    assert back.parameters_count == parameters[3]
    pruned = found.rows[3]
    for quantized in found.rows[4:6]:  # ours, and exported for ONNX Runtime
        assert sum(pruned.right[i] != quantized.right[i] for i in range(20)) <= 2
    assert [note.partition(":")[0] for note in found.notes[1:]] == ["student", "student, pruned"]
    assert wb.Waterfall.load(folder / "out" / "waterfall.json") == found


KILLED = """
import os, signal, sys
from pathlib import Path
import workbench as wb

class Kills:
    trainings = 0
    def update(self, what, done, total):
        self.trainings += what == "training" and done == 0
        if self.trainings == 2 and what == "training" and done == 9:
            os.kill(os.getpid(), signal.SIGKILL)
    def check(self): pass

with wb.reporting(Kills()):
    wb.compress(wb.Recipe.load(Path(sys.argv[1])), sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(recipe, folder, whole, monkeypatch) -> None:
    """SIGKILL after step 9 of 12 in which the pruned student learns again, 3 after a checkpoint."""
    (folder / "recipe.json").write_text(recipe.to_json())
    out = folder / "killed"
    command = [sys.executable, "-c", KILLED, folder / "recipe.json", out]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert (out / "student").is_dir()
    assert [one.name for one in (out / "pruned.part").glob("checkpoint-*")] == ["checkpoint-6"]
    assert not (out / "pruned").exists()

    trained = []
    module = sys.modules["workbench.compress.distil"]
    plain = module._trainer
    monkeypatch.setattr(module, "_trainer", lambda *args: trained.append(args) or plain(*args))
    monkeypatch.setattr(verb, "_measured", lambda run, variants, *_: variants)
    for _ in range(2):
        wb.compress(recipe, out)
    assert len(trained) == 1  # what was finished is not made again
    for name in ("student", "pruned"):
        killed, undisturbed = (folder / where / name for where in ("killed", "out"))
        file = "model.safetensors"
        assert (killed / file).read_bytes() == (undisturbed / file).read_bytes()
        learned = [json.loads((one / "learned.json").read_text()) for one in (killed, undisturbed)]
        assert learned[0] | {"seconds": 0} == learned[1] | {"seconds": 0}


@pytest.mark.slow
def test_the_command_shows_and_draws_what_was_measured(
    folder, recipe, whole, monkeypatch, capsys
) -> None:
    asked = []
    monkeypatch.setattr(verb, "compress", lambda *args: asked.append(args) or whole[0])
    paths = [folder / f"{name}.json" for name in ("one", "other")]
    for path in paths:
        path.write_text(recipe.to_json())
    picture = folder / "picture.html"
    command = ["compress", *map(str, paths), "--out", "here", "--chart", str(picture)]
    assert main(command) == 0
    assert asked == [({"one": recipe, "other": recipe}, Path("here"))]
    assert "student, pruned" in capsys.readouterr().out
    assert picture.read_text().count("<svg") == 2
    assert main(["compress", str(paths[0]), str(paths[0]), "--out", "here"]) == 2
    assert "same file name" in capsys.readouterr().err


def test_what_met_a_time_is_met_again(recipe, tmp_path, monkeypatch) -> None:
    """A run that goes on measures otherwise, and yet prunes to the same student."""
    section = recipe.compression.model_copy(update={"pruning": Target(latency_ms=5)})
    (run,) = verb._runs({"": recipe.model_copy(update={"compression": section})}, tmp_path)
    teacher = run.teacher()
    made = []
    monkeypatch.setattr(steps, "distil", lambda student, *_, **__: made.append(student.model))
    monkeypatch.setattr(steps, "load", lambda folder: None)
    timed = iter([1, 1, 9, 9, 9, 9, 9, 9])

    def measured(model, batch) -> float:
        assert batch["input_ids"].shape[0] == 1
        return next(timed)

    monkeypatch.setattr(sys.modules["workbench.compress.prune"], "_time", measured)
    for _ in range(2):
        run.pruned(teacher, teacher)
    first, again = (model.state_dict() for model in made)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert next(timed, None) is None


@pytest.mark.slow
def test_several_recipes_share_what_is_alike_and_are_measured_together(
    recipe, folder, monkeypatch
) -> None:
    def other(**changes) -> Recipe:
        section = recipe.model_dump(mode="json")["compression"] | {"instances": 1, "batch": 1}
        section |= changes
        return recipe.model_copy(update={"compression": CompressionSpec.model_validate(section)})

    taught, plain = [], steps.distil

    def distil(student, learn, judge, where, **keywords):
        taught.append(where.relative_to(folder / "curve").as_posix())
        return plain(student, learn, judge, where, **keywords)

    monkeypatch.setattr(steps, "distil", distil)
    recipes = {
        "wide": other(engines=["workbench"]),
        "slim": other(
            engines=["workbench", "workbench compiled"], pruning={"heads": 0.34, "units": 0.25}
        ),
    }
    found = wb.compress(recipes, folder / "curve")
    assert taught == ["wide/student", "wide/pruned", "slim/pruned"]
    assert [(row.name, row.parent) for row in found.rows] == [
        ("teacher, padded", None),
        ("teacher, own lengths", "teacher, padded"),
        ("wide: student", "teacher, own lengths"),
        ("wide: student, pruned", "wide: student"),
        ("wide: int8, workbench", "wide: student, pruned"),
        ("slim: student, pruned", "wide: student"),
        ("slim: int8, workbench", "slim: student, pruned"),
        ("slim: int8, workbench compiled", "slim: student, pruned"),
    ]
    assert found.rows[5].parameters < found.rows[3].parameters
    eager, compiled = found.rows[6:]
    assert sum(eager.right[i] != compiled.right[i] for i in range(20)) <= 2
    assert found.rows[4] in found.judged
    strange = {"wide": recipe, "late": other(threads=2)}
    with pytest.raises(WorkbenchError, match="late has threads 2, and wide 1"):
        wb.compress(strange, folder / "strange")
    with pytest.raises(WorkbenchError, match="plain name"):
        wb.compress({"../wide": recipe}, folder / "strange")


def test_what_does_not_fit_is_refused_before_anything_is_made(recipe, folder, tmp_path) -> None:
    with pytest.raises(WorkbenchError, match="no section compression"):
        wb.compress(Recipe(), tmp_path / "a")
    document = recipe.model_dump()
    strange = tmp_path / "strange.tsv"
    strange.write_text("sentence\tlabel\ngood\tfunny\n")
    document["compression"]["task"]["train"] = str(strange)
    with pytest.raises(
        WorkbenchError, match="label 'funny', which is none of the model's: bad, nice"
    ):
        wb.compress(Recipe.model_validate(document), tmp_path / "b")
    strange.write_text("text\tlabel\ngood\tnice\n")
    for split in ("held_out", "test"):
        document = recipe.model_dump()
        document["compression"]["task"][split] = str(strange)
        with pytest.raises(WorkbenchError, match="no column 'sentence'; its columns are: text, la"):
            wb.compress(Recipe.model_validate(document), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    bad = json.loads(recipe.to_json())
    bad["compression"]["pruning"]["heads"] = 0
    with pytest.raises(WorkbenchError, match="would leave layers empty"):
        Recipe.from_json(json.dumps(bad))
