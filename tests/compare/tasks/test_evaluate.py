"""Tasks of our own against brute force, and two runs set side by side."""

import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification

import workbench as wb
from workbench.compare import differences
from workbench.compare.tasks import TaskScores, evaluate
from workbench.compare.tasks.text import perplexity_scores
from workbench.errors import WorkbenchError


def test_every_token_is_judged_once_with_its_context(pylm, tmp_path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("def area(width, height):\n    return width * height\n\n\nprint(area(2, 3))\n")
    ids = pylm.tokens("evaluation", path)
    length, stride = 8, 3
    expected, sizes = [], []
    with torch.inference_mode():
        for position in range(1, len(ids)):
            start = max(0, -(-(position + 1 - length) // stride) * stride)
            window = torch.tensor([ids[start : position + 1]])
            logits = pylm.model(input_ids=window[:, :-1]).logits[0, -1].float()
            expected.append(F.cross_entropy(logits[None], window[0, -1:]).item())
            sizes.append(position - start)
    found = perplexity_scores(pylm.model, pylm, text=path, length=length, stride=stride)
    assert sum(found.weights) == len(ids) - 1
    assert min(sizes[length:]) >= length - stride
    assert found.mean == pytest.approx(sum(expected) / len(expected), rel=1e-5)


def test_windows_that_do_not_fit_are_refused(pylm) -> None:
    longest = pylm.model.config.max_position_embeddings
    with pytest.raises(WorkbenchError, match=f"context of {longest}"):
        perplexity_scores(pylm.model, pylm, length=longest + 1)
    for stride in (0, 8, 9):
        with pytest.raises(WorkbenchError, match="allowed: 1 to 7"):
            perplexity_scores(pylm.model, pylm, length=8, stride=stride)


def test_nearest_neighbours_of_an_encoder(folder) -> None:
    minilm = wb.load("minilm")
    scores = evaluate(minilm.model, minilm, data=folder)[0]
    assert (scores.task, len(scores.scores)) == ("agnews_neighbour", 4)
    assert scores.mean == 1  # sports next to sports, business next to business


@pytest.fixture
def classifier() -> wb.LoadedModel:
    minilm = wb.load("minilm")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(minilm.tokenizer), hidden_size=16, num_hidden_layers=1, num_labels=2,
        num_attention_heads=2, intermediate_size=32, id2label={0: "negative", 1: "positive"},
    )  # fmt: skip
    model = BertForSequenceClassification(config).eval()
    return wb.LoadedModel("tiny", model, minilm.tokenizer, "classifier", "", None)


def test_classifiers_are_judged_by_their_labels(classifier, folder) -> None:
    scores = evaluate(classifier.model, classifier, data=folder)[0]
    texts = ['a "fine film', "bad"]
    with torch.inference_mode():
        chosen = [
            int(classifier.model(**classifier.tokenizer(t, return_tensors="pt")).logits.argmax())
            for t in texts
        ]
    assert scores.scores == [float(chosen[0] == 1), float(chosen[1] == 0)]


def test_a_label_that_the_model_does_not_know(classifier, folder, tmp_path) -> None:
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2/test.tsv").write_text("sentence\tlabel\nfine\t2\n")
    with pytest.raises(WorkbenchError, match=r"label '2'.*0 \(negative\), 1 \(positive\)"):
        evaluate(classifier.model, classifier, data=tmp_path)
    (tmp_path / "sst2/test.tsv").write_text("sentence\tlabel\nfine\tpositive\n")
    assert len(evaluate(classifier.model, classifier, data=tmp_path)[0].scores) == 1


def test_tasks_of_another_kind_are_refused(pylm, folder) -> None:
    with pytest.raises(
        WorkbenchError, match=r"'sst2' judges a classifier, but pylm is a causal-lm"
    ):
        evaluate(pylm.model, pylm, ["sst2"], data=folder)
    with pytest.raises(WorkbenchError, match=r"wikitext2 needs a folder"):
        evaluate(pylm.model, pylm, ["wikitext2"])


def scores(values, *, task="t", better=True, binary=True, documents="d") -> TaskScores:
    return TaskScores(
        task=task, metric="acc", higher_is_better=better, binary=binary, scores=values,
        documents=documents, seed=0,
    )  # fmt: skip


def test_a_difference_is_one_only_where_chance_would_not_make_it() -> None:
    reference = scores([1.0] * 60 + [0.0] * 40)
    few = scores([1.0] * 57 + [0.0] * 43)  # three lost, none won: p = 1/4
    many = scores([1.0] * 40 + [0.0] * 60)  # twenty lost
    assert differences([reference], [few])[0].verdict == "not told apart"
    found = differences([reference], [many])[0]
    assert (found.verdict, found.lost, found.won) == ("worse", 20, 0)
    assert found.degradation == pytest.approx(1 / 3)
    assert differences([many], [reference])[0].verdict == "better"


def test_more_tasks_ask_for_more_evidence() -> None:
    reference = scores([1.0] * 100)
    six = scores([1.0] * 94 + [0.0] * 6)  # p = 2 / 2^6 = .031
    assert differences([reference], [six])[0].verdict == "worse"
    others = [scores([1.0] * 100, task=f"t{n}") for n in range(4)]
    found = differences([reference, *others], [six, *others])
    assert [each.verdict for each in found] == ["not told apart"] * 5


def test_lower_is_better_for_losses() -> None:
    reference = scores([2.0, 3.0, 4.0] * 20, better=False, binary=False)
    higher = scores([2.1, 3.2, 4.3] * 20, better=False, binary=False)
    found = differences([reference], [higher])[0]
    assert (found.verdict, found.p, found.lost) == ("worse", None, None)
    assert 0 < found.low < 0.2 < found.high
    assert found.degradation == pytest.approx(0.2 / 3)


def test_other_documents_are_not_paired() -> None:
    with pytest.raises(WorkbenchError, match="other documents"):
        differences([scores([1.0, 0.0])], [scores([1.0, 0.0], documents="e")])
    with pytest.raises(WorkbenchError, match="no t;"):
        differences([scores([1.0])], [scores([1.0], task="u")])
