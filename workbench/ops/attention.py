"""The op of softmax attention: torch's `scaled_dot_product_attention`, read and written in place.

Queries, keys and values are read where projections left them, and the result is laid out as the
projection after it reads it, so that nothing is copied. Queries may have a multiple of the heads of
keys and values (grouped-query attention). Inside all is float32.
"""

import torch
from torch import Tensor

from workbench.ops import native
from workbench.ops.structs import HEADS

_library = torch.library.Library("workbench", "FRAGMENT")
_library.define(
    "attention_native(Tensor query, Tensor key, Tensor value, Tensor? mask=None, "
    "bool causal=False, float? scale=None) -> Tensor"
)


def attention_native(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Softmax attention of `query` [B, H, T, D] to `key` [B, H', S, D] and `value` [B, H', S, E].

    `mask`, of shapes that broadcast to [B, H, T, S], is true where a query may see a key, or is
    added to scores. With `causal` query i sees the keys 0 .. i. `scale` of the scores is
    1 / sqrt(D) unless given. A query that may see nothing gives zeros. Returns [B, H, T, E], whose
    memory is [B, T, H, E].
    """
    batch, heads, queries, depth = query.shape
    kv_heads, keys, value_depth = key.shape[1], key.shape[2], value.shape[3]
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    made = query.new_empty((batch, queries, heads, value_depth))
    mask_numbers = [0] * 4
    if mask is not None:
        if mask.dtype not in native.DTYPES:
            mask = mask.to(query.dtype)
        mask = mask.expand(batch, heads, queries, keys)
        if mask.stride(-1) != 1:
            mask = mask.contiguous()
        mask_numbers = [native.DTYPES[mask.dtype], *mask.stride()[:3]]
    described = HEADS.pack(
        native.DTYPES[query.dtype], batch, heads, kv_heads, queries, keys, depth, value_depth,
        query.data_ptr(), key.data_ptr(), value.data_ptr(),
        *query.stride()[:3], *key.stride()[:3], *value.stride()[:3],
        0 if mask is None else mask.data_ptr(), *mask_numbers, causal, made.data_ptr(),
    )  # fmt: skip
    by = depth**-0.5 if scale is None else scale
    if native.call("wb_attention", described, by, torch.get_num_threads()):
        raise RuntimeError(
            f"the kernels refuse {heads} heads over {kv_heads}, or are out of memory"
        )
    return made.transpose(1, 2)


def _fake(query: Tensor, _key: Tensor, value: Tensor, *_: object) -> Tensor:
    batch, heads, queries, _depth = query.shape
    return query.new_empty((batch, queries, heads, value.shape[3])).transpose(1, 2)


_library.impl("attention_native", attention_native, "CompositeExplicitAutograd")
torch.library.register_fake("workbench::attention_native", _fake, lib=_library)
