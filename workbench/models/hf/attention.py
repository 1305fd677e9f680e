"""The native attention in eager models of transformers, between layers that are native.

To transformers it is "sdpa", the implementation that a config names: whichever way a model was
made, copied or loaded, and whoever asks for that name, finds what they know.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from workbench.ops import native
from workbench.ops.attention import attention_native
from workbench.ops.watched import is_watched
from workbench.quant import QModule

Attention = Callable[..., tuple[Tensor, Tensor | None]]
ELSEWHERE = ("softcap", "position_bias", "cache")  # what only the way of transformers takes


def register_attention() -> None:
    """Let modules with native layers attend natively where transformers would call torch."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if not hasattr(before, "instead_of"):
        ALL_ATTENTION_FUNCTIONS["sdpa"] = _instead_of(before)


def _instead_of(before: Attention) -> Attention:
    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        **others: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention [B, T, H, D] of `query` [B, H, T, D], and no weights; as `before` has it."""
        if dropout or not _is_native(module, query, key, value, attention_mask, others):
            return before(
                module, query, key, value, attention_mask,
                dropout=dropout, scaling=scaling, is_causal=is_causal, **others,
            )  # fmt: skip
        if is_causal is None:
            is_causal = getattr(module, "is_causal", True)
        # One query alone is the last: it sees all keys.
        causal = bool(is_causal) and attention_mask is None and query.shape[2] > 1
        made = attention_native(query, key, value, attention_mask, causal, scaling)
        return made.transpose(1, 2), None

    attend.instead_of = before  # type: ignore[attr-defined]
    return attend


def _is_native(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    others: dict[str, Any],
) -> bool:
    """Whether layers of `module` are native, nobody watches, and this can be native as well."""
    return (
        not is_watched(query, key, value, mask)  # first, as it is for the compiler
        and any(isinstance(one, QModule) and one.panels is not None for one in module.children())
        and query.is_cpu
        and query.dtype in native.FLOATS
        and query.dtype == key.dtype == value.dtype
        and query.shape[0] == key.shape[0]
        and not torch.is_autocast_enabled("cpu")
        and all(others.get(name) is None for name in ELSEWHERE)
        and not others.get("output_attentions")
    )
