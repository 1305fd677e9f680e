"""An exported model in the place of the torch model that it was made of."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationMixin, PreTrainedModel

OF_ONE_TEXT: Mapping[str, Callable[[Tensor], Tensor]] = {
    "attention_mask": torch.ones_like,
    "token_type_ids": torch.zeros_like,
}


def inputs_of(exported: Any) -> set[str]:
    """The inputs of an exported graph."""
    [graph] = exported.components.values()
    return set(graph.metadata.kwargs)


class EngineModel(PreTrainedModel):
    """Transformers' `ExportedModel` of any engine, called as the model was that it was made of.

    It has no parameters. What a call leaves out of the inputs is made as for one text without
    padding.
    """

    device = torch.device("cpu")  # type: ignore[assignment] # there is no parameter to ask
    _supports_sdpa = True

    def __init__(self, exported: Any) -> None:
        super().__init__(exported.config)
        self.exported = exported
        self.takes = inputs_of(exported)

    @property
    def dtype(self) -> torch.dtype:
        """That of its outputs."""
        found: torch.dtype = self.exported.dtype
        return found

    def forward(self, input_ids: Tensor | None = None, **inputs: Any) -> Any:
        """Run the graph on tokens, or on what else the model takes."""
        given = {n: v for n, v in inputs.items() if n in self.takes and v is not None}
        if input_ids is not None:
            made = {n: make(input_ids) for n, make in OF_ONE_TEXT.items() if n in self.takes}
            given = {"input_ids": input_ids} | made | given
        return self.exported(**given)


class EngineGenerator(EngineModel, GenerationMixin):
    """A language model with its key-value cache, for `generate` and pipelines."""

    def __init__(self, exported: Any) -> None:
        super().__init__(exported)
        if exported.generation_config is not None:
            self.generation_config = exported.generation_config

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        **_: Any,
    ) -> Any:
        """Logits of every position of `input_ids` [B, T], and the cache with them in it."""
        rows, count = input_ids.shape
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if attention_mask is None:
            attention_mask = torch.ones(rows, past + count, dtype=torch.int64)
        if position_ids is None:
            position_ids = torch.arange(past, past + count).expand(rows, -1)
        positions = {"position_ids": position_ids} if "position_ids" in self.takes else {}
        return self.exported(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values if past else self._empty_cache(rows),
            **positions,
        )

    def _empty_cache(self, rows: int) -> DynamicCache:
        """A cache of no tokens, which the graph wants as tensors all the same."""
        config: Any = self.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        nothing = torch.empty(rows, heads, 0, width, dtype=self.dtype)
        cache = DynamicCache(config=config)
        for layer in range(config.num_hidden_layers):
            cache.update(nothing, nothing, layer)
        return cache


def standing_for(exported: Any) -> EngineModel:
    """The model of an export, its class called as the one it was made of: pipelines go by that."""
    kind = EngineGenerator if "past_key_values" in inputs_of(exported) else EngineModel
    name = (exported.config.architectures or [kind.__name__])[0]
    made: EngineModel = type(name, (kind,), {})(exported)
    return made
