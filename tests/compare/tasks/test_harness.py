"""The harness through us: the scores of its own model, and nothing changed by the visit."""

import logging
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.compare.tasks import LOCAL, harness_scores
from workbench.compare.tasks.local import local_task
from workbench.progress import Cancelled, reporting

pytest.importorskip("lm_eval", reason="needs the extra [eval]")


def of_its_own(loaded: wb.LoadedModel, name: str, data: Path) -> tuple[list[float], float]:
    """Per-document and mean accuracy of HFLM itself on the same documents."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(
        pretrained=loaded.model, tokenizer=loaded.tokenizer, backend="causal", batch_size=8
    )
    found = simple_evaluate(
        model=model,
        tasks=[local_task(name, data, None, 0)],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    return [sample["acc"] for sample in samples], found["results"][name]["acc,none"]


@pytest.mark.parametrize("name", LOCAL)
def test_scores_are_those_of_its_own_model(name, pylm, folder) -> None:
    scores = harness_scores(pylm.model, pylm.tokenizer, [name], data=folder)[0]
    each, mean = of_its_own(pylm, name, folder)
    assert scores.scores == each
    assert scores.mean == pytest.approx(mean, abs=1e-12)
    assert (scores.task, scores.metric, scores.binary) == (name, "acc", True)


@pytest.mark.data
def test_real_documents_score_as_with_its_own_model(pylm, data_sets, tmp_path) -> None:
    for name in ("lambada_openai", "arc_easy"):
        file = tmp_path / LOCAL[name].file
        file.parent.mkdir()
        lines = (data_sets / LOCAL[name].file).read_text().splitlines(keepends=True)
        file.write_text("".join(lines[:16]))
        scores = harness_scores(pylm.model, pylm.tokenizer, [name], data=tmp_path)[0]
        assert scores.scores == of_its_own(pylm, name, tmp_path)[0]


def test_nothing_is_left_changed(pylm, folder) -> None:
    model = pylm.copy()
    wb.quantize(model, weights=wb.qint8)
    wb.freeze(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    padding = pylm.tokenizer.pad_token
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    level = logging.getLogger("lm_eval").level
    harness_scores(model, pylm.tokenizer, ["openbookqa"], data=folder)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    assert logging.getLogger("lm_eval").level == level
    assert pylm.tokenizer.pad_token == padding
    assert "tie_weights" not in vars(model)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


class _Watcher:
    """Notes progress; asks to stop after `patience` steps."""

    def __init__(self, patience: int | None = None) -> None:
        self.seen: list[tuple[str, int, int | None]] = []
        self.patience = patience

    def update(self, what: str, done: int, total: int | None) -> None:
        self.seen.append((what, done, total))

    def check(self) -> None:
        if self.patience is not None and len(self.seen) > self.patience:
            raise Cancelled("enough")


def test_progress_counts_every_sequence(pylm, folder) -> None:
    watcher = _Watcher()
    with reporting(watcher):
        harness_scores(pylm.model, pylm.tokenizer, ["arc_easy"], data=folder, batch_size=2)
    steps = [(done, total) for what, done, total in watcher.seen if what == "arc_easy"]
    total = steps[0][1]
    assert steps[0] == (0, total)
    assert steps[-1][0] >= total - 1  # the last step is told when the next one is asked for


def test_cancel_stops_it(pylm, folder) -> None:
    with reporting(_Watcher(patience=3)), pytest.raises(Cancelled):
        harness_scores(pylm.model, pylm.tokenizer, ["arc_easy"], data=folder, batch_size=1)


def test_long_contexts_are_cut_and_counted(pylm, folder, tmp_path) -> None:
    path = tmp_path / LOCAL["lambada_openai"].file
    path.parent.mkdir()
    longer = "word " * (pylm.model.config.max_position_embeddings + 10)
    path.write_text(f'{{"context": "{longer}", "continuation": "end"}}\n' * 2)
    assert harness_scores(pylm.model, pylm.tokenizer, ["lambada_openai"], data=tmp_path)[
        0
    ].truncated


def test_a_tokenizer_of_another_model_is_refused(tiny_llama, pylm, folder) -> None:
    with pytest.raises(wb.WorkbenchError, match="do not belong together"):
        harness_scores(tiny_llama, pylm.tokenizer, ["arc_easy"], data=folder)


def test_without_data_a_task_comes_from_the_network_or_not_at_all(pylm) -> None:
    with pytest.raises(wb.WorkbenchError, match=r"cannot run 'no_such_task'.*local forms"):
        harness_scores(pylm.model, pylm.tokenizer, ["no_such_task"])


def test_without_the_extra(monkeypatch, pylm, folder) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(wb.WorkbenchError, match=r"quantization-workbench\[eval\]"):
        harness_scores(pylm.model, pylm.tokenizer, ["arc_easy"], data=folder)
