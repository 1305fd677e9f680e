"""Random models as small as a test allows; the same weights every time."""

from typing import Any

import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM


def llama(hidden_size: int = 64, **more: Any) -> LlamaForCausalLM:
    """A Llama of two blocks over 97 tokens, unless `more` says otherwise."""
    torch.manual_seed(0)
    settings = {
        "vocab_size": 97, "intermediate_size": 2 * hidden_size, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(hidden_size=hidden_size, **(settings | more))).eval()


def bert(hidden_size: int, **more: Any) -> BertModel:
    """A BERT without pooling, of one block over 97 tokens, unless `more` says otherwise."""
    torch.manual_seed(0)
    settings = {
        "vocab_size": 97, "intermediate_size": 2 * hidden_size, "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }  # fmt: skip
    config = BertConfig(hidden_size=hidden_size, **(settings | more))
    return BertModel(config, add_pooling_layer=False).eval()
