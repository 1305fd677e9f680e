"""The whole models of the benchmark, random ones included: time does not depend on training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from workbench.models import load

ENCODER_TOKENS = 128
PROMPT_TOKENS = 256


@dataclass(frozen=True)
class Subject:
    """A float32 model of transformers, and the inputs [1, T] to feed it."""

    kind: Literal["encoder", "decoder"]
    what: str
    make: Callable[[], tuple[nn.Module, dict[str, Tensor]]]


def _bert_base() -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = BertModel(BertConfig(), add_pooling_layer=False)  # the defaults are BERT-base
    return model, _encoder_inputs(model)


def _minilm() -> tuple[nn.Module, dict[str, Tensor]]:
    loaded = load("minilm")
    text = " ".join(loaded.sentences("evaluation"))
    found = loaded.tokenizer(text, truncation=True, max_length=ENCODER_TOKENS, return_tensors="pt")
    return loaded.model, {name: found[name] for name in ("input_ids", "attention_mask")}


def _llama() -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=8,
        num_attention_heads=32,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config), {"input_ids": _ids(config.vocab_size, PROMPT_TOKENS)}


def _pylm() -> tuple[nn.Module, dict[str, Tensor]]:
    loaded = load("pylm")
    [batch] = loaded.batches("evaluation", samples=1, length=PROMPT_TOKENS, batch_size=1)
    return loaded.model, {"input_ids": batch["input_ids"]}


def _encoder_inputs(model: nn.Module) -> dict[str, Tensor]:
    ids = _ids(model.config.vocab_size, ENCODER_TOKENS)  # type: ignore[union-attr, arg-type]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _ids(vocabulary: int, length: int) -> Tensor:
    return torch.randint(vocabulary, (1, length), generator=torch.Generator().manual_seed(0))


subjects: dict[str, Subject] = {
    "bert-base": Subject("encoder", "random BERT-base, batch 1, 128 tokens", _bert_base),
    "minilm": Subject("encoder", "the pretrained all-MiniLM-L6-v2, batch 1, 128 tokens", _minilm),
    "llama-8x2048": Subject(
        "decoder", "random Llama of 2048 x 5632 x 8 layers, prompt of 256 tokens", _llama
    ),
    "pylm": Subject("decoder", "the bundled language model, prompt of 256 tokens", _pylm),
}
