"""AWQ: give the channels that matter a larger share of the grid, and clip by what reaches them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from workbench.quant import MaxOptimizer
from workbench.quant.rounding import from_grid, numbers_for, to_grid
from workbench.tune.algorithm import Algorithm, register_algorithm
from workbench.tune.layer import Layer
from workbench.tune.site import Site


@register_algorithm("clip")
@dataclass(frozen=True)
class Clip(Algorithm):
    """The share of each block's range with the least error in the output (AWQ, section 3.2).

    Blocks are judged one by one: the error of block b is `d H_b d` for its rounding error d and its
    own part H_b of the inputs' Gram matrix. Of `steps` shares the least is `least`.
    """

    steps: int = 20
    least: float = 0.5

    def __call__(self, layer: Layer) -> None:
        kind, affine = layer.args.qtype, not layer.args.symmetric
        blocks = layer.blocks(layer.weight)
        if len(blocks) != len(layer.weight):  # one range for all
            return
        gram = _diagonal_blocks(layer.inputs.gram.float(), blocks.shape[1])
        low, high = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
        least = blocks.new_full(blocks.shape[:-1], torch.inf)
        best: tuple[Tensor, Tensor | None] | None = None
        for share in torch.linspace(1.0, self.least, self.steps).tolist():
            scale, point = numbers_for(low * share, high * share, kind, affine)
            error = from_grid(to_grid(blocks, scale, point, kind), scale, point) - blocks
            loss = (torch.einsum("ogk,gkl->ogl", error, gram) * error).sum(-1)
            better = loss < least
            least = torch.where(better, loss, least)
            found = scale[..., 0], None if point is None else point[..., 0]
            best = found if best is None else _choose(better, found, best)
        assert best is not None
        layer.settle(*best)


def _diagonal_blocks(gram: Tensor, count: int) -> Tensor:
    """The parts [count, size, size] of `gram` along its diagonal."""
    size = len(gram) // count
    return gram.view(count, size, count, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def _choose(
    better: Tensor, new: tuple[Tensor, Tensor | None], old: tuple[Tensor, Tensor | None]
) -> tuple[Tensor, Tensor | None]:
    scale = torch.where(better, new[0], old[0])
    if new[1] is None or old[1] is None:
        return scale, None
    return scale, torch.where(better, new[1], old[1])


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
            loss = sum(_loss(layer, factors) for layer in site.layers)
            if loss < least:
                least, best = loss, factors
        if not bool((best == 1).all()):
            site.scale(best)


def _factors(magnitude: Tensor, exponent: float) -> Tensor:
    """`magnitude^exponent`, its largest and smallest value centred on 1; 1 where a channel is 0."""
    live = magnitude > 0
    if not live.any():
        return torch.ones_like(magnitude)
    raw = magnitude.where(live, magnitude[live].mean()).pow(exponent)
    return (raw / (raw.max() * raw.min()).sqrt()).where(live, torch.ones_like(raw))


def _loss(layer: Layer, factors: Tensor) -> float:
    """Squared error of the output, all tokens, with columns scaled while they are rounded."""
    kind, scaled = layer.args.qtype, layer.blocks(layer.weight * factors)
    scale, point = MaxOptimizer().search(
        scaled.flatten(0, -2), kind, affine=not layer.args.symmetric
    )
    rounded = from_grid(to_grid(scaled.flatten(0, -2), scale, point, kind), scale, point)
    return layer.inputs.error(rounded.view(layer.weight.shape) / factors - layer.weight)
