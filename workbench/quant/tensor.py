"""The view of a quantized weight that behaves as the float tensor it stands for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from workbench.ops.packing import unpack
from workbench.ops.weights import dequantize, integers


@dataclass(frozen=True)
class Layout:
    """How the stored matrices relate to the tensor seen.

    They are [*lead, columns] with numbers of `bits` bits; the tensor is [*lead, *rest], with the
    last two dimensions swapped where `transposed`. `dtype` is that of the values seen.
    """

    shape: torch.Size  # before swapping
    bits: int
    transposed: bool
    dtype: torch.dtype

    @property
    def seen(self) -> torch.Size:
        """The shape of the tensor seen."""
        if not self.transposed:
            return self.shape
        return torch.Size([*self.shape[:-2], self.shape[-1], self.shape[-2]])


class QTensor(Tensor):
    """Integers (or float8) with scales and zero points, seen as a float tensor.

    `data` is int8 or float8 in the shape of the tensor, or packed int32 [*lead, words]; `scale` and
    `zero_point` are [*lead, groups], or [1] for all. Transposing, indexing, slicing and
    splitting along the first dimension, `cat` along it, `clone` and `to` stay quantized; every
    other operation works on the dequantized values. It is a view of its module's buffers and is not
    pickled.
    """

    data_: Tensor
    scale: Tensor
    zero_point: Tensor | None
    form: Layout

    @staticmethod
    def __new__(
        cls, data: Tensor, scale: Tensor, zero_point: Tensor | None, layout: Layout
    ) -> Self:
        del scale, zero_point
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined, no-any-return]
            cls, layout.seen, dtype=layout.dtype, device=data.device, requires_grad=False
        )

    def __init__(
        self, data: Tensor, scale: Tensor, zero_point: Tensor | None, layout: Layout
    ) -> None:
        self.data_ = data
        self.scale = scale
        self.zero_point = zero_point
        self.form = layout

    def dequantize(self) -> Tensor:
        """Return the float tensor this stands for."""
        return self.unpacked()._read(dequantize).to(self.form.dtype)

    def integers(self) -> Tensor:
        """Return the stored numbers, unpacked to int8 or float8, in the shape of the tensor."""

        def stored(data: Tensor, _s: Tensor, _z: Tensor | None, bits: int, columns: int) -> Tensor:
            return unpack(data, bits, columns) if data.dtype == torch.int32 else data

        return self.unpacked()._read(stored)

    def unpacked(self) -> "QTensor":
        """The same, not in panels for the native kernels, which nothing here indexes."""
        if self.data_.dtype != torch.uint8:
            return self
        values = integers(self.data_, self.form.bits, *self.form.shape)
        return QTensor(values, self.scale, self.zero_point, self.form)

    def _read(self, read: Callable[..., Tensor]) -> Tensor:
        shape = self.form.shape
        packed = self.data_.dtype == torch.int32
        lead = self.data_.dim() - 1 if packed else max(self.scale.dim() - 1, 1)
        columns = prod(shape[lead:])  # to the compiler a slice of a shape is a tuple
        data = self.data_ if self.data_.dtype == torch.int32 else self.data_.flatten(lead)
        values = read(data, self.scale, self.zero_point, self.form.bits, columns).reshape(shape)
        return values.transpose(-1, -2) if self.form.transposed else values

    def map(self, fn: Callable[[Tensor], Tensor], layout: Layout | None = None) -> "QTensor":
        """Apply `fn` to the stored tensors."""
        point = None if self.zero_point is None else fn(self.zero_point)
        return QTensor(fn(self.data_), fn(self.scale), point, layout or self.form)

    # mypy drops the names of a special method's arguments, so that no keyword of Tensor's matches.
    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return (
            f"QTensor({tuple(self.shape)}, {self.dtype}, {self.form.bits} bits, "
            f"scale {tuple(self.scale.shape)})"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "QTensor":
        return self.map(Tensor.clone)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "a QTensor is not pickled: save its model with workbench.save, or its `dequantize()`"
        )

    def __tensor_flatten__(self) -> tuple[list[str], Layout]:
        names = ["data_", "scale"]
        return names if self.zero_point is None else [*names, "zero_point"], self.form

    @staticmethod
    def __tensor_unflatten__(
        inner: dict[str, Tensor], context: Layout, outer_size: Any, outer_stride: Any
    ) -> "QTensor":
        return QTensor(inner["data_"], inner["scale"], inner.get("zero_point"), context)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch declares it as a plain function
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        stays = _quantized_ops.get(func.overloadpacket)
        if stays is not None:
            result = stays(*args, **(kwargs or {}))
            if result is not None:
                return result
        plain = tree_map_only(QTensor, QTensor.dequantize, (args, kwargs or {}))
        return func(*plain[0], **plain[1])


_quantized_ops: dict[Any, Callable[..., Any]] = {}
aten = torch.ops.aten


def _stays_quantized(*ops: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register what an operation does to a QTensor; it returns None for cases it leaves alone."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        _quantized_ops.update(dict.fromkeys(ops, function))
        return function

    return decorate


@_stays_quantized(aten.detach, aten.alias)
def _same(x: QTensor) -> QTensor:
    return x.map(lambda inner: inner)


@_stays_quantized(aten.clone)
def _clone(x: QTensor, **_: Any) -> QTensor:
    return x.map(Tensor.clone)


@_stays_quantized(aten._to_copy)
def _to(
    x: QTensor, *, dtype: torch.dtype | None = None, device: Any = None, **_: Any
) -> QTensor | None:
    if dtype is not None and not dtype.is_floating_point:
        return None
    layout = replace(x.form, dtype=dtype or x.dtype)
    return x.map(lambda inner: inner.to(device=device), layout)


@_stays_quantized(aten.t, aten.transpose, aten.permute)
def _swap(x: QTensor, *dims: Any) -> QTensor | None:
    if x.dim() != 2 or len(x.form.shape) != 2:
        return None
    order = [d % 2 for d in (dims[0] if dims and isinstance(dims[0], list | tuple) else dims)]
    if order and len(dims) == 1 and order == [0, 1]:
        return _same(x)
    return x.map(lambda inner: inner, replace(x.form, transposed=not x.form.transposed))


@_stays_quantized(aten.select, aten.slice, aten.index)
def _rows(x: QTensor, *where: Any) -> QTensor | Tensor | None:
    """Index along the first dimension, where numbers are kept for each of its entries."""
    if x.scale.dim() < 2 or (x.form.transposed and x.dim() == 2):
        return None
    x = x.unpacked()
    if isinstance(where[0], list):  # aten.index
        if len(where[0]) != 1:
            return None
        index = where[0][0]
    elif where[0] % x.dim() != 0:
        return None
    elif len(where) == 2:  # aten.select
        index = where[1]
    else:
        index = slice(*where[1:4])
    data = x.data_[index]
    entries = x.data_.shape[0]
    kept = torch.empty(entries, 0, device="meta")[index].shape[:-1] if entries else data.shape[:1]
    shape = torch.Size([*kept, *x.form.shape[1:]])
    if isinstance(index, int) and x.scale.dim() == 2:  # one row has no row of its own numbers left
        row = x.map(lambda inner: inner[index : index + 1 or None])
        row.form = replace(x.form, shape=torch.Size([1, *x.form.shape[1:]]))
        return row.dequantize()[0]
    return x.map(lambda inner: inner[index], replace(x.form, shape=shape))


@_stays_quantized(aten.split, aten.split_with_sizes)
def _split(x: QTensor, size: int | list[int], dim: int = 0) -> list[Any] | None:
    """Cut along the first dimension; `chunk` ends here too."""
    total = x.shape[dim]
    sizes = size if isinstance(size, list) else [size] * -(-total // max(size, 1))
    ends = [min(end, total) for end in accumulate(sizes)]
    parts = [_rows(x, dim, start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return parts if all(isinstance(part, QTensor) for part in parts) else None


@_stays_quantized(aten.cat)
def _cat(parts: list[Any], dim: int = 0) -> QTensor | None:
    """Join along the first dimension what is stored alike."""
    parts = [part.unpacked() if isinstance(part, QTensor) else part for part in parts]
    first = parts[0]
    alike = all(
        isinstance(part, QTensor)
        and part.scale.dim() >= 2
        and part.scale.shape[1:] == first.scale.shape[1:]
        and (part.zero_point is None) == (first.zero_point is None)
        and part.data_.dtype == first.data_.dtype
        and replace(part.form, shape=first.form.shape) == first.form
        for part in parts
    )
    if dim != 0 or not alike or first.form.transposed:
        return None
    rows = sum(part.form.shape[0] for part in parts)
    layout = replace(first.form, shape=torch.Size([rows, *first.form.shape[1:]]))
    point = None if first.zero_point is None else torch.cat([p.zero_point for p in parts])
    return QTensor(
        torch.cat([p.data_ for p in parts]), torch.cat([p.scale for p in parts]), point, layout
    )
