"""The session on a small saved model: stages, invalidation, jobs, and the code it prints."""

import threading

import pytest
import torch

import workbench as wb
from workbench.errors import WorkbenchError


@pytest.fixture
def session(recipe):
    session = wb.Session(recipe)
    yield session
    session.close()


def test_each_verb_brings_up_what_is_missing(session):
    assert session.stage == "empty"
    session.calibrate()
    assert session.stage == "calibrated"
    session.freeze()
    assert session.stage == "frozen"
    ops = {layer.op for layer in session.plan.layers if layer.scheme != "float"}
    assert ops <= {"a8_linear_native", "a8_linear_int_mm"}, "no reference on a CPU of this century"


def test_the_float_model_is_never_harmed(session):
    before = {k: v.clone() for k, v in session.load().model.state_dict().items()}
    session.freeze()
    assert all(torch.equal(v, before[k]) for k, v in session.loaded.model.state_dict().items())


def test_untouched_tensors_are_shared(session):
    session.freeze()
    ours, theirs = session.model.model.embed_tokens, session.loaded.model.model.embed_tokens
    assert ours is not theirs
    assert ours.weight is theirs.weight


def test_a_change_drops_only_what_it_invalidates(session):
    session.freeze()
    loaded, statistics = session.loaded, session.statistics
    session.update(session.recipe.with_alpha(0.8))
    assert session.stage == "observed"
    assert session.statistics is statistics
    session.update(session.recipe.with_calibration(samples=3))
    assert session.stage == "loaded"
    assert session.loaded is loaded
    session.update(session.recipe.with_model("minilm"))
    assert session.stage == "empty"


def test_the_printed_code_computes_the_same_bits(session, tmp_path, monkeypatch):
    model = session.freeze()
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    code = "\n".join(
        line
        for line in session.code().splitlines()
        if not line.startswith(("evaluation", "report", "print"))
    )
    exec(code, names)
    batch = session.loaded.batches(
        "calibration", samples=2, length=32, text=session.recipe.calibration.text
    )[0]
    with torch.inference_mode():
        expected = model(**batch).logits
        assert torch.equal(names["model"](**batch).logits, expected)
        assert torch.equal(wb.load("out").model(**batch).logits, expected)


def test_a_saved_session_carries_recipe_and_plan(session, tmp_path):
    folder = session.save(tmp_path / "out")
    assert wb.Recipe.load(folder / "recipe.json") == session.recipe
    assert wb.Plan.model_validate_json((folder / "plan.json").read_text()) == session.plan


def test_a_job_reports_progress_and_its_end(session):
    seen = []
    session.subscribe(lambda s: seen.append((s.job.state, s.job.what)))
    job = session.submit("calibrate").wait(60)
    assert (job.state, job.error) == ("done", None)
    assert job.result is session.model
    assert seen[-1][0] == "done"
    assert {"queued", "running"} <= {state for state, _ in seen}


class Gate:
    """Holds the first forward of a model until a test lets it go on, and counts large ones."""

    def __init__(self, model):
        self.reached, self.open, self.batches = threading.Event(), threading.Event(), 0
        self.handle = model.register_forward_pre_hook(self.hold, with_kwargs=True)

    def hold(self, _module, _args, kwargs):
        self.batches += kwargs["input_ids"].numel() >= 64  # tracing takes a few tokens
        self.reached.set()
        assert self.open.wait(30)


def test_cancel_is_obeyed_within_a_batch_and_leaves_the_session_as_it_was(session):
    loaded = session.load()
    gate = Gate(loaded.model)
    job = session.submit("observe")
    assert gate.reached.wait(30)
    job.cancel()
    gate.open.set()
    job.wait(30)
    gate.handle.remove()
    assert job.state == "cancelled"
    assert session.stage == "loaded"
    assert gate.batches <= 1
    assert session.submit("observe").wait(60).state == "done"


def test_a_queued_job_can_be_cancelled(session):
    gate = Gate(session.load().model)
    first = session.submit("observe")
    assert gate.reached.wait(30)
    second = session.submit("calibrate")
    second.cancel()
    gate.open.set()
    assert first.wait(30).state == "done"
    assert second.wait(30).state == "cancelled"
    assert session.model is None


def test_a_result_for_a_replaced_recipe_is_thrown_away(session):
    gate = Gate(session.load().model)
    job = session.submit("observe")
    assert gate.reached.wait(30)
    session.update(session.recipe.with_calibration(samples=2))
    gate.open.set()
    assert job.wait(30).state == "cancelled"
    assert "recipe changed" in job.error
    assert session.statistics is None


def test_a_failing_job_says_why_and_leaves_the_session(session, tmp_path):
    session.freeze()
    model = session.model
    (tmp_path / "file").write_text("")
    job = session.submit("save", tmp_path / "file").wait(60)
    assert job.state == "failed"
    assert "is a file" in job.error
    assert session.model is model


def test_undo_and_redo_go_through_the_recipes_and_a_new_one_ends_redo(session):
    first = session.recipe
    second = first.with_alpha(0.8)
    session.update(second)
    session.update(second.with_scheme("o1"))
    session.undo()
    assert session.recipe == second
    session.undo()
    assert session.recipe == first
    with pytest.raises(WorkbenchError, match="nothing to undo"):
        session.undo()
    session.redo()
    assert session.recipe == second
    session.update(first.with_alpha(0.1))
    with pytest.raises(WorkbenchError, match="nothing to redo"):
        session.redo()
    session.undo()
    assert session.recipe == second


def test_undo_drops_what_the_recipe_before_did_not_make(session):
    session.freeze()
    session.update(session.recipe.with_calibration(samples=3))
    assert session.stage == "loaded"
    session.freeze()
    session.undo()
    assert session.stage == "loaded"
    assert session.frozen is False


def test_a_paused_job_waits_and_then_goes_on_or_is_cancelled(session):
    gate = Gate(session.load().model)
    for ends, state in (("resume", "done"), ("cancel", "cancelled")):
        session.statistics = None
        gate.reached.clear()
        gate.open.clear()
        job = session.submit("observe")
        assert gate.reached.wait(30)
        job.pause()
        gate.open.set()
        job.wait(0.3)
        assert job.state == "running"
        assert job.paused
        getattr(job, ends)()
        assert job.wait(60).state == state
        assert not job.paused
    gate.handle.remove()


def test_what_was_measured_once_is_not_measured_again(recipe, tmp_path):
    """Another session, as tomorrow's, finds the point; another recipe does not."""
    import workbench.session.session as module
    from workbench.session import History

    counted, compare = [], module.compare
    path = tmp_path / "runs.sqlite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "compare", lambda *a: counted.append(1) or compare(*a))
        found = []
        for alpha in (0.5, 0.5, 0.6):
            one = wb.Session(recipe.with_alpha(alpha), history=History(path))
            found.append(one.compare())
            sizes = [run.bytes for run in one.runs]
            one.close()
    assert len(counted) == 2
    assert found[0].model_dump_json() == found[1].model_dump_json()
    spared = sum(layer.float_bytes - layer.bytes for layer in one.plan.layers)
    assert sizes == [one.loaded.bytes - spared] * 2


def test_bits_are_allocated_into_the_recipe_and_the_code_has_them(session, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    damages = session.sensitivity()
    assert session.sensitivity() is damages
    names = [choice.name for choice in session.choices() if choice.bytes]
    assert sorted(damages.layers) == sorted(names)
    for choice in session.choices():  # shapes alone tell what sensitivity measured
        for found in damages.layers.get(choice.name, {}).values():
            assert choice.bytes[found.bits] == found.bytes
    budget = wb.Budget(kind="mean_bits", limit=4.5)
    allocation = session.allocate(budget)
    expected = {name: args.qtype.bits for name, args in allocation.weights.items()}
    assert wb.recipe.layer_bits(session.recipe, names) == expected
    assert session.damages is damages, "other bits are no reason to measure anew"
    session.freeze()
    made = {layer.name: layer.bits for layer in session.plan.layers if layer.scheme != "float"}
    assert made == expected
    session.undo()
    assert set(wb.recipe.layer_bits(session.recipe, names).values()) == {8}
    session.update(session.recipe.with_alpha(0.9))
    assert session.damages is None


def test_the_error_of_one_input_is_that_of_its_rounded_layers(session):
    """Independent: SmoothQuant's scales, one scale a row, one for the input; numpy only."""
    import numpy as np

    session.observe()
    name = next(n for n, e in session.statistics.entries.items() if len(e.linears) == 3)
    entry = session.statistics[name]
    found = session.error(name)
    x, xmax = entry.sample.double().numpy(), entry.absmax.double().numpy()
    weights = [session.loaded.model.get_submodule(n).weight.detach() for n in entry.linears]
    w = np.concatenate([weight.double().numpy() for weight in weights])
    s = np.sqrt(xmax.clip(1e-5)) / np.sqrt(np.abs(w).max(0).clip(1e-5))
    step_w = np.abs(w * s).max(1, keepdims=True) / 127
    step_x = (xmax / s).max() / 127
    rounded = (
        (x / s / step_x).round().clip(-128, 127) * step_x @ ((w * s / step_w).round() * step_w).T
    )
    exact = x @ w.T
    expected = 10 * np.log10((exact**2).sum() / ((exact - rounded) ** 2).sum())
    assert found.sqnr_db == pytest.approx(expected, abs=0.3)  # a few ties round the other way
    assert (found.alpha, found.tokens) == (0.5, len(x))
    with pytest.raises(WorkbenchError, match="no input 'x' was observed"):
        session.error("x")


def test_training_is_a_verb_and_needs_a_section(session):
    with pytest.raises(WorkbenchError, match="no training section"):
        session.train()
    session.update(session.recipe.with_training(steps=3, held_out=1))
    curve = session.train()
    assert len(curve.losses) == len(session.losses.steps) == 3
    assert session.curve is curve
    assert curve.kept in curve.held_out
    assert "held_out=1," in session.code()
    assert session.stage == "calibrated"


def test_bad_verbs_are_refused(session):
    with pytest.raises(WorkbenchError, match=r"'explode' is unknown; allowed: .*load"):
        session.submit("explode")


@pytest.mark.parametrize(("content", "message"), [("", "is empty"), ("w1 w2", "less than one")])
def test_calibration_text_that_is_too_short_is_refused(session, tmp_path, content, message):
    path = tmp_path / "short.txt"
    path.write_text(content)
    session.update(session.recipe.with_calibration(text=str(path)))
    with pytest.raises(WorkbenchError, match=message):
        session.calibrate()
    assert session.stage == "loaded"


def test_an_unknown_model_leaves_the_session_empty():
    session = wb.Session("pilm")
    with pytest.raises(WorkbenchError, match="no model 'pilm'"):
        session.observe()
    assert session.stage == "empty"
    session.close()


def test_a_recipe_can_pin_the_op_and_refuses_one_that_is_not_there(session):
    recipe = session.recipe
    pinned = recipe.quantization.model_copy(update={"op": "a8_linear_reference"})
    session.update(recipe.model_copy(update={"quantization": pinned}))
    session.freeze()
    assert {x.op for x in session.plan.layers if x.scheme != "float"} == {"a8_linear_reference"}
    assert "wb.freeze(model, op='a8_linear_reference')" in session.recipe.to_code()
    with pytest.raises(wb.WorkbenchError, match=r"op 'fast' is unknown; allowed: a8_linear_native"):
        wb.Recipe.from_json('{"quantization": {"op": "fast"}}')


def test_a_recipe_can_leave_slower_layers_in_float(session, monkeypatch):
    def verdict(module):
        return module.shapes["weight"][0] < module.shapes["weight"][1], "as the test says"

    monkeypatch.setattr("workbench.quant.slower.against_float", verdict)
    session.update(session.recipe.with_quantization(slower="float"))
    session.freeze()
    plan = {x.name: x for x in session.plan.layers if x.name != "lm_head"}
    left = {name: x.op_reason for name, x in plan.items() if x.scheme == "float"}
    assert left == {
        name: "slower quantized than in float, as the test says"
        for name in plan
        if name.endswith(("down_proj", "k_proj", "v_proj"))
    }


def test_the_plan_says_how_the_numbers_of_each_layer_were_chosen(session, monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    document = session.recipe.with_scheme("none").model_dump(mode="json")
    document["quantization"] |= {
        "bits": "auto",
        "budget": {"kind": "mean_bits", "limit": 4},
        "algorithms": {"*.mlp.*": ["awq", "gptq"]},
    }
    session.update(wb.Recipe.model_validate(document))
    session.freeze()
    numbers = {x.name: x.numbers for x in session.plan.layers if x.scheme != "float"}
    assert len(numbers) == 14
    assert all(one.damage > 0 for one in numbers.values())
    tuned = {n for n, one in numbers.items() if one.algorithms == ("awq", "gptq")}
    assert tuned == {n for n in numbers if ".mlp." in n}
    gate = numbers["model.layers.0.mlp.gate_proj"]
    assert gate.sqnr_db > 0
    assert "within 4 mean bits, the same as model.layers.0.mlp.up_proj" in gate.reason
    assert "its scales are folded into the norm" in gate.reason
    assert "awq, gptq" in str(gate)
    assert wb.Plan.model_validate_json(session.plan.to_json()) == session.plan
