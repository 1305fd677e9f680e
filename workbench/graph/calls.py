"""What each module of interest got and gave in one forward."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.graph.leaves import leaves


@dataclass
class Call:
    """The first call of a module, and how many there were."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    count: int = 1

    @property
    def input(self) -> Tensor | None:
        """The first argument, where it is a float tensor."""
        return float_tensor(next(iter((*self.args, *self.kwargs.values())), None))


def float_tensor(value: Any) -> Tensor | None:
    """`value` if it is a tensor of floats with at least one dimension."""
    return (
        value if isinstance(value, Tensor) and value.is_floating_point() and value.dim() else None
    )


def run(model: nn.Module, batch: Mapping[str, Any]) -> list[Tensor]:
    """The float tensors that `model(**batch)` returns."""
    outputs = model(**batch)
    return output_leaves(outputs)


def output_leaves(outputs: Any) -> list[Tensor]:
    """The float tensors of a model's outputs; caches are no outputs."""
    return [leaf for leaf in leaves(outputs) if float_tensor(leaf) is not None]


def deviation(after: Iterable[Tensor], before: Iterable[Tensor]) -> float:
    """The largest difference relative to the largest value, over all outputs; NaN if any is."""
    moved = [
        ((new - old).abs().max() / old.abs().max().clamp_min(1e-12)).float()
        for new, old in zip(after, before, strict=True)
    ]
    return float(torch.stack(moved).max())


@torch.no_grad()
def calls(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Call]:
    """Run `model(**batch)`; return the calls of modules that hold parameters of their own."""
    seen: dict[str, Call] = {}
    handles = []

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            if name in seen:
                seen[name].count += 1
            else:
                seen[name] = Call(module, args, kwargs, output)

        return keep

    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None or isinstance(
            module, nn.Linear
        ):
            handles.append(module.register_forward_hook(hook(name), with_kwargs=True))
    try:
        model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return seen
