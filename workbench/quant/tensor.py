"""The view of a quantized weight that behaves as the float tensor it stands for."""

from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only


class QTensor(Tensor):
    """Integers and their scale, seen as a float tensor; every operation dequantizes it first.

    `data_` holds the integers [out, in] and `scale` [out, 1] what to multiply them by.
    """

    data_: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, data: Tensor, scale: Tensor) -> Self:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined, no-any-return]
            cls, data.shape, dtype=scale.dtype, device=data.device, requires_grad=False
        )

    def __init__(self, data: Tensor, scale: Tensor) -> None:
        self.data_ = data
        self.scale = scale

    def dequantize(self) -> Tensor:
        """Return the float tensor this stands for."""
        return self.data_.to(self.scale.dtype) * self.scale

    # mypy drops the names of a special method's arguments, so that no keyword of Tensor's matches.
    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"QTensor({tuple(self.shape)}, {self.data_.dtype}, scale {tuple(self.scale.shape)})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "a QTensor is a view and is not pickled; save its model with workbench.save"
        )

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["data_", "scale"], None

    @staticmethod
    def __tensor_unflatten__(
        inner: dict[str, Tensor], context: None, outer_size: Any, outer_stride: Any
    ) -> "QTensor":
        return QTensor(inner["data_"], inner["scale"])

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch declares it as a plain function
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.detach.default:
            return QTensor(args[0].data_, args[0].scale)
        plain = tree_map_only(QTensor, QTensor.dequantize, (args, kwargs or {}))
        return func(*plain[0], **plain[1])
