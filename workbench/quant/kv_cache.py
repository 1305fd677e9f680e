"""A key-value cache in few bits, for `generate` through transformers' cache interface."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from workbench.errors import WorkbenchError
from workbench.ops.packing import pack
from workbench.ops.weights import dequantize
from workbench.quant.qtypes import qtype, qtypes
from workbench.quant.rounding import affine, to_grid


class QuantizedKVCache(Cache):
    """Keys and values of full-attention layers in 8, 6, 4, 3 or 2 bits; other layers stay in float.

    As in KIVI (arXiv:2402.02750), keys are quantized per channel over `block` tokens, since their
    outliers keep to channels, and values per token. The last tokens, fewer than `block`, stay in
    float; each block is rounded once. Pass it as `past_key_values` to `generate` or to a forward.
    """

    def __init__(self, config: Any, dtype: qtype | str = "int8", block: int = 32) -> None:
        """Make an empty cache for the model of `config`; raises WorkbenchError on bad arguments."""
        kind = dtype if isinstance(dtype, qtype) else qtypes.get(str(dtype).removeprefix("q"))
        integers = ", ".join(name for name, known in qtypes.items() if not known.is_float)
        if kind is None or kind.is_float:
            raise WorkbenchError(f"a cache in {dtype!r} is not possible; allowed: {integers}")
        if block < 1 or block % 32:
            raise WorkbenchError(f"block is {block}; allowed: 32 tokens and multiples of it")
        layers = [
            QuantizedKVLayer(kind, block) if type(layer) is DynamicLayer else layer
            for layer in DynamicCache(config=config).layers
        ]
        super().__init__(layers=layers)

    @property
    def nbytes(self) -> int:
        """Bytes that keys and values occupy, numbers and float tails included."""
        return sum(tensor.nbytes for layer in self.layers for tensor in _tensors(layer))


@dataclass(frozen=True)
class Blocks:
    """Rounded states [B, H, rows, columns], each run of `size` columns with numbers of its own."""

    data: Tensor  # int32 [B, H, rows, words]
    scale: Tensor  # float32 [B, H, rows, columns / size]
    zero_point: Tensor  # int8, likewise
    kind: qtype
    size: int
    dtype: torch.dtype

    @classmethod
    def of(cls, states: Tensor, kind: qtype, size: int) -> "Blocks":
        """Round `states`."""
        runs = states.float().unflatten(-1, (-1, size))
        low, high = runs.aminmax(dim=-1, keepdim=True)
        scale, point = affine(low, high, kind)
        values = to_grid(runs, scale, point, kind).flatten(-2)
        words = pack(values, kind.bits)
        return cls(
            words, scale.squeeze(-1), point.squeeze(-1).to(torch.int8), kind, size, states.dtype
        )

    def states(self) -> Tensor:
        """The values stood for, in the dtype they had."""
        columns = self.scale.shape[-1] * self.size
        numbers = (self.scale, self.zero_point, self.kind.bits, columns)
        return dequantize(self.data, *numbers).to(self.dtype)

    def map(self, fn: Callable[[Tensor], Tensor]) -> "Blocks":
        """Apply `fn` to all that is stored."""
        return replace(
            self, data=fn(self.data), scale=fn(self.scale), zero_point=fn(self.zero_point)
        )

    def after(self, before: "Blocks | None", dim: int) -> "Blocks":
        """Join these after `before`, along rows (-2) or columns (-1)."""
        if before is None:
            return self
        return replace(
            self,
            data=torch.cat([before.data, self.data], dim),
            scale=torch.cat([before.scale, self.scale], dim),
            zero_point=torch.cat([before.zero_point, self.zero_point], dim),
        )


class QuantizedKVLayer(DynamicLayer):
    """The cache of one layer; `keys` and `values` are the tails still in float [B, H, T, D]."""

    keys: Any
    values: Any

    def __init__(self, kind: qtype, block: int) -> None:
        super().__init__()
        self.kind = kind
        self.block = block
        self.old_keys: Blocks | None = None  # [B, H, D, T]
        self.old_values: Blocks | None = None  # [B, H, T, D]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append states [B, H, T, D]; return all keys and values, those of old blocks rounded."""
        super().update(key_states, value_states, *args, **kwargs)
        keys, values = self._all()
        self._round_blocks()
        return keys, values

    def _all(self) -> tuple[Tensor, Tensor]:
        if self.old_keys is None or self.old_values is None:
            return self.keys, self.values
        keys = torch.cat([self.old_keys.states().transpose(-1, -2), self.keys], -2)
        return keys, torch.cat([self.old_values.states(), self.values], -2)

    def _round_blocks(self) -> None:
        """Move whole blocks from the tails to the rounded states."""
        whole = self.keys.shape[-2] // self.block * self.block
        if whole == 0:
            return
        keys, values = self.keys[..., :whole, :], self.values[..., :whole, :]
        rounded = Blocks.of(keys.transpose(-1, -2), self.kind, self.block)
        self.old_keys = rounded.after(self.old_keys, dim=-1)
        rounded = Blocks.of(values, self.kind, values.shape[-1])
        self.old_values = rounded.after(self.old_values, dim=-2)
        # Clones, so that the whole prompt is not kept alive by a view of its end.
        self.keys, self.values = (
            self.keys[..., whole:, :].clone(),
            self.values[..., whole:, :].clone(),
        )

    def get_seq_length(self) -> int:
        """How many tokens are cached."""
        if not self.is_initialized:
            return 0
        old = 0 if self.old_values is None else self.old_values.data.shape[-2]
        return old + int(self.keys.shape[-2] if self.keys.dim() == 4 else 0)

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.old_keys = self.old_values = None

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last `-tokens_to_remove` tokens; what is left of a cut block is rounded anew.

        (The values are on their grid already, so nearly all of them stay what they are.)
        """
        if not self.is_initialized or -tokens_to_remove <= self.keys.shape[-2]:
            super().crop(tokens_to_remove)
            return
        self.keys, self.values = self._all()
        self.old_keys = self.old_values = None
        super().crop(tokens_to_remove)
        self._round_blocks()

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each sequence of the batch."""
        self._map(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these sequences of the batch."""
        self._map(lambda tensor: tensor[indices])

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Put the sequences of the batch in another order, as beam search does."""
        self._map(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def _map(self, fn: Callable[[Tensor], Tensor]) -> None:
        if not self.is_initialized:
            return
        self.keys, self.values = fn(self.keys), fn(self.values)
        if self.old_keys is not None and self.old_values is not None:
            self.old_keys, self.old_values = self.old_keys.map(fn), self.old_values.map(fn)


def _tensors(layer: Any) -> list[Tensor]:
    """All that the cache of a layer holds."""
    if not layer.is_initialized:
        return []
    held = [layer.keys, layer.values]
    for old in (getattr(layer, "old_keys", None), getattr(layer, "old_values", None)):
        held += [] if old is None else [old.data, old.scale, old.zero_point]
    return held
