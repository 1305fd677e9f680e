"""Gates of one on heads and feed-forward units: closed they mask, and their gradients tell."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from workbench.graph.calls import float_tensor
from workbench.graph.widths import Width


@contextmanager
def gated(model: nn.Module, widths: Sequence[Width], gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiply the inputs of readers by their `gates`, [U], or [B, U] for one each example.

    By hooks before the reader, so that attention may be computed in any way, fused ones included.
    """

    def hook(width: Width) -> Callable[..., Any]:
        gate = gates[width.reader]

        def multiply(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            x = float_tensor(args[0])
            assert x is not None
            factors = gate[..., width.owner(x.shape[-1]).to(gate.device)].to(x)
            if factors.dim() == 1:
                return (x * factors, *args[1:])
            # Some models put the tokens of all examples in one row.
            each = x.reshape(len(factors), -1, x.shape[-1])
            return ((each * factors.unsqueeze(1)).reshape(x.shape), *args[1:])

        return multiply

    handles = [
        model.get_submodule(width.reader).register_forward_pre_hook(hook(width))
        for width in widths
        if width.reader in gates
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
