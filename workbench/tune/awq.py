"""AWQ: give the channels that matter a larger share of the grid, and clip by what reaches them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from workbench.quant.optimizers import BestRange
from workbench.tune.algorithm import Algorithm, register_algorithm
from workbench.tune.layer import Layer
from workbench.tune.site import Site

COARSER = 4  # a clipping while scales are tried than the last


@register_algorithm("clip")
@dataclass(frozen=True)
class Clip(Algorithm):
    """The share of each block's range with the least error in the output (AWQ, section 3.2).

    Blocks are judged one by one: the error of block b is `d H_b d` for its rounding error d and its
    own part H_b of the inputs' Gram matrix. Of `steps` shares the least is `least`; the scale is
    then fitted to the integers.
    """

    steps: int = 20
    least: float = 0.5

    def __call__(self, layer: Layer) -> None:
        blocks = layer.blocks(layer.weight)
        if len(blocks) != len(layer.weight):  # one range for all
            return
        gram = _diagonal_blocks(layer.inputs.gram.float(), blocks.shape[1])

        def weighed(values: Tensor) -> Tensor:
            return torch.einsum("ogk,gkl->ogl", values.view(blocks.shape), gram).flatten(0, 1)

        best = _range(layer, blocks, lambda e: (weighed(e) * e).sum(1, keepdim=True))
        best.search(self.steps, self.least)
        best.fit(weighed)
        shape = blocks.shape[:-1]
        layer.settle(best.scale.view(shape), None if best.point is None else best.point.view(shape))


def _range(layer: Layer, blocks: Tensor, loss: Callable[[Tensor], Tensor]) -> BestRange:
    return BestRange(blocks.flatten(0, -2), layer.args.qtype, not layer.args.symmetric, loss)


def _diagonal_blocks(gram: Tensor, count: int) -> Tensor:
    """The parts [count, size, size] of `gram` along its diagonal."""
    size = len(gram) // count
    return gram.view(count, size, count, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)


@register_algorithm("awq")
@dataclass(frozen=True)
class Awq(Clip):
    """Activation-aware scales (arXiv:2306.00978, equation 4), then clipping.

    Columns are multiplied by `s = mean|x|^a`, inputs divided by it; `a` of 0..1, in `grid` steps,
    is the one with the least error of all the outputs that read the input.
    """

    looks_at_readers: ClassVar[bool] = True
    grid: int = 20

    def prepare(self, site: Site) -> None:
        if not site.scalable:
            return
        magnitude = site.layers[0].inputs.magnitude
        least, best = torch.inf, torch.ones_like(magnitude)
        for step in range(self.grid):
            factors = _factors(magnitude, step / self.grid)
            loss = sum(self._loss(layer, factors) for layer in site.layers)
            if loss < least:
                least, best = loss, factors
        if not bool((best == 1).all()):
            site.scale(best)

    def _loss(self, layer: Layer, factors: Tensor) -> float:
        """Squared error of the output, all tokens, with columns scaled while they are rounded.

        In ranges that are clipped as well, if more coarsely: which scale is best depends on it.
        """
        blocks = layer.blocks(layer.weight * factors)
        shares = layer.inputs.gram.diagonal().float() / factors.square()
        shares = layer.blocks(shares.expand_as(layer.weight)).flatten(0, -2)
        best = _range(layer, blocks, lambda e: (e.square_() * shares).sum(1, keepdim=True))
        best.search(self.steps // COARSER, self.least)
        rounded = best.nearest.view(layer.weight.shape)
        return layer.inputs.error(rounded / factors - layer.weight)


def _factors(magnitude: Tensor, exponent: float) -> Tensor:
    """`magnitude^exponent`, its largest and smallest value centred on 1; 1 where a channel is 0."""
    live = magnitude > 0
    if not live.any():
        return torch.ones_like(magnitude)
    raw = magnitude.where(live, magnitude[live].mean()).pow(exponent)
    return (raw / (raw.max() * raw.min()).sqrt()).where(live, torch.ones_like(raw))
