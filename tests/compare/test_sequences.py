"""Scores of single sequences, against their definitions and the mean over all."""

from types import SimpleNamespace

import pytest
import torch

from workbench.compare import perplexity, sequence_scores
from workbench.errors import WorkbenchError


def test_losses_of_sequences_add_up_to_the_loss_over_all_tokens(tiny_llama) -> None:
    ids = torch.randint(1, 97, (6, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0  # a short one weighs less
    batches = [
        {"input_ids": ids[part], "attention_mask": mask[part]} for part in (slice(4), slice(4, 6))
    ]
    (scores,) = sequence_scores({"float": tiny_llama}, tiny_llama, batches).values()
    assert scores.weights == [11, 6, 11, 11, 11, 11]
    with torch.no_grad():
        logs = tiny_llama(input_ids=ids, attention_mask=mask).logits.double().log_softmax(-1)
    told = -logs[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    expected = [told[i, : int(mask[i].sum()) - 1].mean().item() for i in range(6)]
    assert scores.scores == pytest.approx(expected, rel=1e-5)
    assert scores.mean == pytest.approx(perplexity(tiny_llama, batches).loss, rel=1e-6)
    assert not scores.higher_is_better


def test_an_encoder_is_scored_by_the_cosine_to_the_reference() -> None:
    hidden = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(1))
    turned = hidden.clone()
    turned[1] *= -1
    turned[2] *= 5
    models = {
        name: lambda values=values, **_: SimpleNamespace(last_hidden_state=values)
        for name, values in (("float", hidden), ("other", turned))
    }
    batch = {"input_ids": torch.ones(3, 4, dtype=torch.long)}
    found = sequence_scores(models, models["float"], [batch])
    assert found["float"].scores == pytest.approx([1, 1, 1])
    assert found["other"].scores == pytest.approx([1, -1, 1])
    assert found["other"].higher_is_better


def test_a_classifier_is_scored_by_its_divergence_from_the_reference() -> None:
    p, q = torch.tensor([[0.9, 0.1], [0.5, 0.5]]), torch.tensor([[0.8, 0.2], [0.5, 0.5]])
    models = {
        "float": lambda **_: SimpleNamespace(logits=p.log()),
        "other": lambda **_: SimpleNamespace(logits=q.log()),
    }
    batch = {"input_ids": torch.ones(2, 3, dtype=torch.long)}
    found = sequence_scores(models, models["float"], [batch])["other"].scores
    assert found == pytest.approx((p * (p / q).log()).sum(-1).tolist(), abs=1e-6)


def test_what_cannot_be_scored_is_refused(tiny_llama) -> None:
    with pytest.raises(WorkbenchError, match="no batches"):
        sequence_scores({"a": tiny_llama}, tiny_llama, [])
    batch = {"input_ids": torch.ones(1, 3, dtype=torch.long)}
    with pytest.raises(WorkbenchError, match="neither logits nor"):
        sequence_scores({}, lambda **_: SimpleNamespace(), [batch])
