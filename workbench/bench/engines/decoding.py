"""Language models of torch with a prompt: as they are, and as `workbench.compile` has them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.bench.engines.tensors import plain, tensor_bytes
from workbench.graph.compile import settings

ROOM = 8  # tokens beyond the prompt


@dataclass(frozen=True)
class Decoder:
    """A language model with its prompt: fill the cache, then take one token with it.

    `logits` are those of the prompt [T, V]. `decode` leaves the cache as it was, so that every
    call does the same. `bytes` are those of the model, as `Engine.bytes_of` says; `module` computes
    it where a torch module does.
    """

    prefill: Callable[[], Any]
    decode: Callable[[], Any]
    logits: Callable[[], Tensor]
    bytes: int
    module: nn.Module | None = None


def module_decoder(module: nn.Module, ids: Tensor) -> Decoder:
    """Decode as `generate` of transformers does, greedily: logits of the last position only."""

    def prefill() -> Any:
        return module(input_ids=ids, use_cache=True, logits_to_keep=1)

    first = prefill()
    cache, token = first.past_key_values, first.logits[:, -1:].argmax(-1)

    def decode() -> Any:
        found = module(input_ids=token, past_key_values=cache, use_cache=True)
        cache.crop(-1)
        return found

    def logits() -> Tensor:
        return plain(module(input_ids=ids).logits[0])

    return Decoder(prefill, decode, logits, tensor_bytes(module), module)


def compiled_decoder(module: nn.Module, ids: Tensor) -> Decoder:
    """The same with the static cache that `generate` then has; `module` itself stays as it is."""
    from transformers import StaticCache

    call = torch.compile(module, dynamic=False, **settings())
    length = ids.shape[1]
    config: Any = module.config
    cache = StaticCache(config=config, max_cache_len=length + ROOM)
    layers: Any = cache.layers

    def begin(position: int) -> None:
        for layer in layers:  # what lies beyond is masked
            layer.cumulative_length.fill_(position)

    def prefill() -> Any:
        begin(0)
        return call(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)

    # The cache allocates its memory on first use, which has to be out of what is compiled.
    first = module(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    token = first.logits[:, -1:].argmax(-1)

    def decode() -> Any:
        begin(length)
        return call(input_ids=token, past_key_values=cache, use_cache=True)

    def logits() -> Tensor:
        return plain(call(input_ids=ids, use_cache=False).logits[0])

    return Decoder(prefill, decode, logits, tensor_bytes(module), module)
