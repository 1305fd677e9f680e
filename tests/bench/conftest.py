"""A language model small enough to be timed in tests, wide enough for groups of 128."""

import pytest
from tiny_models import llama
from transformers import LlamaForCausalLM


@pytest.fixture
def small_llama() -> LlamaForCausalLM:
    """A random Llama of two blocks over 97 tokens, 256 wide; the same weights every time."""
    return llama(256, max_position_embeddings=512).requires_grad_(False)
