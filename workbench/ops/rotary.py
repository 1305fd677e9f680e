"""The op of rotary position embeddings, as Llama has them: `x * cos + rotate_half(x) * sin`."""

import torch
from torch import Tensor

from workbench.ops import native
from workbench.ops.structs import ROTATION

_library = torch.library.Library("workbench", "FRAGMENT")
_library.define("rotary_native(Tensor[] heads, Tensor cos, Tensor sin) -> Tensor[]")


def rotary_native(heads: list[Tensor], cos: Tensor, sin: Tensor) -> list[Tensor]:
    """Rotate each of several [B, H, T, D], queries and keys, by `cos` and `sin` [B, T, D].

    All of one dtype. Returns as many [B, H, T, D], whose memory is [B, T, H, D].
    """
    batch, _, tokens, depth = heads[0].shape
    cos, sin = (x.expand(batch, tokens, depth) for x in (cos, sin))
    if cos.stride() != sin.stride() or cos.stride(-1) != 1:
        cos, sin = cos.contiguous(), sin.contiguous()
    described, made = [], []
    for x in heads:
        x = x if x.stride(-1) == 1 else x.contiguous()
        y = x.new_empty((batch, tokens, x.shape[1], depth))
        numbers = [native.DTYPES[x.dtype], batch, x.shape[1], tokens, depth]
        angles = [cos.data_ptr(), sin.data_ptr(), *cos.stride()[:2]]
        described.append(
            ROTATION.pack(*numbers, x.data_ptr(), *x.stride()[:3], *angles, y.data_ptr())
        )
        made.append(y.transpose(1, 2))
    native.call("wb_rotate", b"".join(described), len(described))
    return made


def _fake(heads: list[Tensor], _cos: Tensor, _sin: Tensor) -> list[Tensor]:
    return [x.new_empty(x.transpose(1, 2).shape).transpose(1, 2) for x in heads]


_library.impl("rotary_native", rotary_native, "CompositeExplicitAutograd")
torch.library.register_fake("workbench::rotary_native", _fake, lib=_library)
