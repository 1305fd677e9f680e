"""Find the blocks of a model: modules in a list, each reading what the one before it made."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from workbench.graph.calls import float_tensor
from workbench.graph.leaves import leaves


@torch.no_grad()
def block_chains(model: nn.Module, batch: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Run `model(**batch)`; return the names of each list's blocks, in order of execution.

    What passes from block to block is the residual stream. A list of lists of blocks, as in models
    with stages, is no chain of its own: the innermost blocks count.
    """
    chains = {}
    for prefix, parent in model.named_modules():
        if isinstance(parent, nn.ModuleList | nn.Sequential) and len(parent) > 1:
            chains[prefix] = [f"{prefix}.{key}" if prefix else key for key in parent._modules]
    passed = _passed(model, batch, {name for chain in chains.values() for name in chain})
    found = [tuple(chain) for chain in chains.values() if _linked(chain, passed)]
    return [
        chain
        for chain in found
        if not any(other[0].startswith(f"{name}.") for other in found for name in chain)
    ]


def _passed(
    model: nn.Module, batch: Mapping[str, Any], names: set[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    """The first float tensor that each module got and gave, where both have one shape."""
    passed: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            given, made = hidden((*args, *kwargs.values())), hidden(output)
            if given is not None and made is not None and given.shape == made.shape:
                passed.setdefault(name, (given, made))

        return keep

    handles = [
        module.register_forward_hook(hook(name), with_kwargs=True)
        for name, module in model.named_modules()
        if name in names and any(True for _ in module.children())
    ]
    try:
        model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return passed


def hidden(values: Any) -> Tensor | None:
    """The first tensor of floats with channels among nested `values`."""
    floats = (leaf for leaf in leaves(values) if float_tensor(leaf) is not None)
    return next((leaf for leaf in floats if leaf.dim() > 1), None)


def _linked(chain: list[str], passed: Mapping[str, tuple[Tensor, Tensor]]) -> bool:
    if any(name not in passed for name in chain):
        return False
    return all(torch.equal(passed[one][1], passed[two][0]) for one, two in pairwise(chain))
