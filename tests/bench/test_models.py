"""The benchmark of whole models, on tiny ones."""

from functools import cache
from xml.etree import ElementTree as ET

import pytest
import torch
from tiny_models import bert

from workbench.bench import measure_models, model_chart
from workbench.bench.engines import engines
from workbench.bench.model_tables import model_sentences, model_tables, row_told
from workbench.bench.models import ModelReport
from workbench.bench.schemes import schemes
from workbench.bench.subjects import Subject, subjects
from workbench.cli import main
from workbench.console import console
from workbench.errors import WorkbenchError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def tiny(monkeypatch, small_llama) -> None:
    encoder = bert(128, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64)
    ids = torch.arange(16).unsqueeze(0)
    feed = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    monkeypatch.setitem(subjects, "bert", Subject("encoder", "tiny", lambda: (encoder, feed)))
    prompt = {"input_ids": ids}
    monkeypatch.setitem(
        subjects, "llama", Subject("decoder", "tiny", lambda: (small_llama, prompt))
    )


@cache  # the tiny models are the same each time, and nobody changes a report
def measured(name: str, *engines: str, compiled: bool = False) -> ModelReport:
    return measure_models([name], [1], engines, compiled=compiled, seconds=0)


def test_an_encoder_keeps_its_direction_in_every_engine(tiny) -> None:
    found = measured("bert")
    rows = {(row.engine, row.op, row.bits): row for row in found.rows}
    assert rows["torch fp32", "float", 32].cosine == pytest.approx(1, abs=1e-6)
    assert {("workbench", op, bits) for op, bits in (("w8a8", 8), ("w8", 8), ("w4", 4))} <= set(
        rows
    )
    for (engine, _, bits), row in rows.items():
        assert row.phase == "forward"
        assert row.cosine > (0.999 if bits > 8 else 0.99 if bits == 8 else 0.95), engine
    assert not found.refused


@torch.no_grad()
@pytest.mark.parametrize("engine", engines.values(), ids=engines)
def test_the_float_encoder_stays_as_it_was(engine, tiny) -> None:
    if engine.obstacle() or not engine.encoder_ops:
        pytest.skip("absent, or runs no encoders")
    model, inputs = subjects["bert"].make()
    model.eval()
    before = model(**inputs).last_hidden_state
    for scheme in (scheme for scheme in schemes() if engine.offers(scheme, "encoder")):
        run = engine.encoder(model, scheme, inputs)(1)
        assert run.output(run.call()).shape == before.shape
    assert torch.equal(model(**inputs).last_hidden_state, before)


def test_a_decoder_prefills_and_decodes_close_to_float(tiny) -> None:
    found = measured("llama", "torch fp32", "torch bf16", "workbench", "quanto")
    rows = {(row.engine, row.op, row.phase): row for row in found.rows}
    assert rows["torch fp32", "float", "decode"].kl == pytest.approx(0, abs=1e-6)
    for phase in ("prefill", "decode"):
        for op in ("w8a8", "w8", "w4", "w4a8"):
            assert 0 <= rows["workbench", op, phase].kl < 0.01


def test_sizes_are_those_of_the_weights(tiny) -> None:
    rows = {(row.engine, row.op): row for row in measured("bert").rows}
    encoder, _ = subjects["bert"].make()
    floats = sum(p.nbytes for p in encoder.parameters()) + sum(b.nbytes for b in encoder.buffers())
    linears = sum(m.weight.numel() for m in encoder.modules() if isinstance(m, torch.nn.Linear))
    assert rows["torch fp32", "float"].bytes == floats
    for (engine, op), row in rows.items():
        assert row.bytes_of == engines[engine].bytes_of
        if row.bits == 8 and row.bytes_of == "in memory":  # in bfloat16 but for the int8 weights
            assert linears < row.bytes < floats / 2, (engine, op)
        elif row.bits == 8:
            assert linears < row.bytes < floats, (engine, op)


def test_the_picture_has_a_mark_for_each_row_and_names_who_is_absent(tiny, tmp_path) -> None:
    found = measured("llama", "torch fp32", "workbench")
    found = found.model_copy(update={"absent": {"llama.cpp": "not installed"}})
    root = ET.fromstring(model_chart.svg(found))
    marks = [element.text or "" for element in root.iter(f"{SVG}title")]
    assert len(marks) == len(found.rows)
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    for row in found.rows:
        told = f"{row_told(row)}: {row.bytes / 1e6:.1f} MB in memory, {row.ms_median:.3g}"
        assert any(told in text for text in texts), told
    assert any("pip install llama-cpp-python" in text for text in texts)
    places = {
        title.text: float(circle.get("cx"))
        for circle in root.iter(f"{SVG}circle")
        for title in circle
    }
    heavy = [x for text, x in places.items() if "torch fp32" in text]
    light = [x for text, x in places.items() if "torch fp32" not in text]
    assert min(heavy) > max(light)
    for ending in ("svg", "html"):
        model_chart.save_chart(found, tmp_path / f"models.{ending}")
        assert "<svg" in (tmp_path / f"models.{ending}").read_text(encoding="utf-8")
    with pytest.raises(WorkbenchError, match=r"\.svg or \.html"):
        model_chart.save_chart(found, tmp_path / "models.png")


def test_ours_is_measured_compiled_too_and_computes_the_same(tiny) -> None:
    for found in (measured("bert"), measured("llama", "torch fp32", "workbench")):
        ours = [row for row in found.rows if row.engine == "workbench"]
        for plain in (row for row in ours if not row.compiled):
            [compiled] = [
                row
                for row in ours
                if row.compiled and (row.op, row.phase) == (plain.op, plain.phase)
            ]
            if plain.cosine is not None:
                assert compiled.cosine == pytest.approx(plain.cosine, abs=1e-3)
            else:
                assert compiled.kl == pytest.approx(plain.kl, rel=0.5, abs=1e-4)
            assert compiled.bytes == plain.bytes


@pytest.mark.slow
def test_compiled_encoders_are_rows_of_their_own(tiny) -> None:
    found = measured("bert", "torch fp32", compiled=True)
    assert [row.compiled for row in found.rows] == [False, True]
    assert all(row.cosine == pytest.approx(1, abs=1e-5) for row in found.rows)


def test_tables_name_model_phase_and_quality(tiny) -> None:
    found = measured("llama", "torch fp32", "workbench")
    screen = console()
    with screen.capture() as capture:
        for table in model_tables(found):
            screen.print(table)
        for sentence in model_sentences(found):
            screen.print(sentence)
    text = capture.get()
    assert "llama, prefill, 1 thread: tiny" in text
    assert "llama, decode, 1 thread: tiny" in text
    assert "KL, nats" in text
    assert ModelReport.model_validate(found.model_dump(mode="json")) == found


def test_an_unknown_model_is_refused(capsys) -> None:
    assert main(["bench", "models", "gpt-5"]) == 2
    assert "no model 'gpt-5' here; allowed: bert-base, minilm" in capsys.readouterr().err
    with pytest.raises(WorkbenchError, match="bits 5"):
        measure_models(["pylm"], bits=[5])


@pytest.mark.parametrize("kind", ["layers", "models"])
def test_help_teaches(kind: str, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["bench", kind, "--help"])
    text = capsys.readouterr().out
    assert f"workbench bench {kind}" in text
    assert "in turns" in text
