"""Perplexity and parse rate against values worked out another way."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from workbench.compare import parse_rate, perplexity, quality
from workbench.compare.quality import complete
from workbench.errors import WorkbenchError


class FixedLogits(nn.Module):
    """Predicts token 0 with probability 3/4 and token 1 with 1/4, whatever it reads."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None):
        logits = torch.tensor([math.log(3.0), 0.0]).expand(*input_ids.shape, 2)
        return SimpleNamespace(logits=logits)


def test_every_token_weighs_the_same() -> None:
    # Targets 0 0 0 in one batch and 1 in the other: the mean of the two means is another value.
    batches = [
        {"input_ids": torch.tensor([[1, 0, 0, 0]])},
        {"input_ids": torch.tensor([[0, 1]])},
    ]
    result = perplexity(FixedLogits(), batches)
    expected = (3 * math.log(4 / 3) + math.log(4)) / 4
    assert result.tokens == 4
    assert result.loss == pytest.approx(expected, rel=1e-6)
    assert result.perplexity == pytest.approx(math.exp(expected), rel=1e-6)


def test_padding_is_not_predicted() -> None:
    batch = {
        "input_ids": torch.tensor([[0, 0, 1, 1]]),
        "attention_mask": torch.tensor([[1, 1, 0, 0]]),
    }
    result = perplexity(FixedLogits(), [batch])
    assert result.tokens == 1
    assert result.loss == pytest.approx(math.log(4 / 3), rel=1e-6)


def test_agrees_with_the_loss_of_transformers(tiny_llama) -> None:
    ids = torch.randint(1, 97, (3, 20), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = tiny_llama(input_ids=ids, labels=ids).loss.item()
    assert perplexity(tiny_llama, [{"input_ids": ids}]).loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("batches", [[], [{"input_ids": torch.tensor([[5]])}]])
def test_nothing_to_predict_is_refused(batches) -> None:
    with pytest.raises(WorkbenchError, match="no token to predict"):
        perplexity(FixedLogits(), batches)


class Characters:
    """A tokenizer of one character a token."""

    pad_token_id = 0

    def batch_decode(self, ids: torch.Tensor, skip_special_tokens: bool) -> list[str]:
        assert skip_special_tokens
        return ["".join(chr(i) for i in row if i) for row in ids.tolist()]


def prompts(count: int) -> list[SimpleNamespace]:
    generator = torch.Generator().manual_seed(2)
    rows = torch.randint(1, 97, (count, 12), generator=generator)
    return [SimpleNamespace(text="", ids=row.tolist()) for row in rows]


def test_completions_are_64_greedy_tokens(tiny_llama) -> None:
    tiny_llama.generation_config.eos_token_id = None
    asked = prompts(3)
    texts = complete(tiny_llama, Characters(), asked)
    # Greedy by hand: the whole sequence again for each token, no cache.
    for prompt, text in zip(asked, texts, strict=True):
        ids = torch.tensor([prompt.ids])
        with torch.inference_mode():
            for _ in range(64):
                ids = torch.cat([ids, tiny_llama(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
        assert text == Characters().batch_decode(ids[:, 12:], skip_special_tokens=True)[0]


def test_parse_rate_counts_the_completions_that_parse(tiny_llama, monkeypatch) -> None:
    texts = ["a = 1\nb = 2\nc = 3\n", "a = 1\nb = = 2\nc = 3\n", "a = 1\n"]
    monkeypatch.setattr(quality, "complete", lambda *_: texts)
    result = parse_rate(SimpleNamespace(tokenizer=None), tiny_llama, prompts(3))
    assert (result.parsed, result.total) == (1, 3)
    assert result.rate == pytest.approx(1 / 3)


def test_no_prompts_is_refused(tiny_llama) -> None:
    with pytest.raises(WorkbenchError, match="no prompts"):
        parse_rate(SimpleNamespace(tokenizer=None), tiny_llama, [])
