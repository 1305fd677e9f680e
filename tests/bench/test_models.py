"""The benchmark of whole models, on tiny ones."""

import pytest
import torch
from transformers import BertConfig, BertModel

from workbench.bench import measure_models
from workbench.bench.engines import engines
from workbench.bench.model_tables import model_sentences, model_tables
from workbench.bench.models import ModelReport
from workbench.bench.schemes import schemes
from workbench.bench.subjects import Subject, subjects
from workbench.cli import main
from workbench.console import console
from workbench.errors import WorkbenchError


@pytest.fixture
def tiny(monkeypatch, small_llama) -> None:
    config = BertConfig(
        vocab_size=97, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    encoder = BertModel(config, add_pooling_layer=False)
    ids = torch.arange(16).unsqueeze(0)
    feed = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    monkeypatch.setitem(subjects, "bert", Subject("encoder", "tiny", lambda: (encoder, feed)))
    prompt = {"input_ids": ids}
    monkeypatch.setitem(
        subjects, "llama", Subject("decoder", "tiny", lambda: (small_llama, prompt))
    )


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
