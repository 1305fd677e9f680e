"""The op of rows that linear layers read, computed and quantized in one call: norms and products.

    layer_norm, rms_norm:   sum = x + other;  y = norm(sum) * gain + bias
    product:                y = x * other

What `workbench.graph.fuse` puts into compiled models. `sum` and `y` are rounded to the dtype of `x`
as separate ops would round them, and layers read the rounded `y`.
"""

import torch
from torch import Tensor

from workbench.ops import native
from workbench.ops.linear import digits_for
from workbench.ops.shared import OF_DTYPE
from workbench.ops.structs import INPUT, SOURCE

KINDS = {"layer_norm": 0, "rms_norm": 1, "product": 2}
_library = torch.library.Library("workbench", "FRAGMENT")
_library.define(
    "rows_native(Tensor x, str kind, Tensor? other, Tensor? gain, Tensor? bias, float epsilon, "
    "bool round_early, bool keep_sum, Tensor[] data, Tensor[] scale, Tensor?[] zero_point, "
    "int bits, int[] rows, Tensor?[] biases, str[] activation, int digits, "
    "Tensor? input_scale=None, Tensor? multiplier=None) -> Tensor[]"
)


def rows_native(
    x: Tensor,
    kind: str,
    other: Tensor | None,
    gain: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
    round_early: bool,
    keep_sum: bool,
    data: list[Tensor],
    scale: list[Tensor],
    zero_point: list[Tensor | None],
    bits: int,
    rows: list[int],
    biases: list[Tensor | None],
    activation: list[str],
    digits: int,
    input_scale: Tensor | None = None,
    multiplier: Tensor | None = None,
) -> list[Tensor]:
    """`y` and, with `keep_sum`, `sum`, both [..., N], then `y` times each weight [..., rows].

    `epsilon` and `round_early` (to the dtype of `x`, before the gain) are the norm's; what follows
    `data` describes the layers as `linears_native` does, none of which are needed.
    """
    columns = x.shape[-1]
    flat = _flat(x, columns)
    beside = None if other is None else _flat(other.expand_as(x), columns)
    y = x.new_empty(x.shape)
    total = x.new_empty(x.shape) if keep_sum else None
    source = SOURCE.pack(
        KINDS[kind], native.DTYPES[x.dtype], flat.shape[0], columns,
        flat.data_ptr(), flat.stride(0),
        *((0, 0) if beside is None else (beside.data_ptr(), beside.stride(0))),
        0 if total is None else total.data_ptr(), y.data_ptr(),
        *_numbers(gain), *_numbers(bias), round_early,
    )  # fmt: skip
    threads = torch.get_num_threads()
    found = [y] if total is None else [y, total]
    if not data:
        failed = native.call("wb_rows", source, epsilon, threads)
    else:
        made = [x.new_empty((*x.shape[:-1], count)) for count in rows]
        each = zip(data, scale, zero_point, rows, biases, activation, made, strict=True)
        outputs = b"".join([native.described(native.Weight(*w), out) for *w, out in each])
        layers = INPUT.pack(
            0, 0, 0, 0, 0,  # x and its sizes are those of the source
            bits,
            1 if scale[0].dim() < 2 else scale[0].shape[1],
            0 if multiplier is None else multiplier.data_ptr(),
            multiplier is not None and multiplier.numel() == 1,
            0 if input_scale is None else input_scale.data_ptr(),
            digits_for(x.dtype) if digits == OF_DTYPE else digits,
            threads,
        )  # fmt: skip
        failed = native.call("wb_source_linears", source, epsilon, layers, outputs, len(made))
        found += made
    if failed:
        raise RuntimeError(f"the kernels refuse rows of {columns} numbers, or are out of memory")
    return found


def _flat(x: Tensor, columns: int) -> Tensor:
    flat = x.reshape(-1, columns)
    return flat if flat.stride(-1) == 1 or columns == 1 else flat.contiguous()


def _numbers(vector: Tensor | None) -> tuple[int, int]:
    return (0, 0) if vector is None else (vector.data_ptr(), native.DTYPES[vector.dtype])


def _fake(
    x: Tensor,
    _kind: str,
    _other: Tensor | None,
    _gain: Tensor | None,
    _bias: Tensor | None,
    _epsilon: float,
    _round_early: bool,
    keep_sum: bool,
    _data: list[Tensor],
    _scale: list[Tensor],
    _zero_point: list[Tensor | None],
    _bits: int,
    rows: list[int],
    *_: object,
) -> list[Tensor]:
    own = [x.new_empty(x.shape) for _ in range(1 + keep_sum)]
    return own + [x.new_empty((*x.shape[:-1], count)) for count in rows]


_library.impl("rows_native", rows_native, "CompositeExplicitAutograd")
torch.library.register_fake("workbench::rows_native", _fake, lib=_library)
