"""GPTQ: round column by column and let the columns to come make up for the error."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.quant.rounding import from_grid, to_grid
from workbench.tune.algorithm import Algorithm, register_algorithm
from workbench.tune.layer import Layer

logger = logging.getLogger(__name__)
COLUMNS = 128  # corrected at once: the rest of the matrix is touched once for so many


@register_algorithm("gptq")
@dataclass(frozen=True)
class Gptq(Algorithm):
    """Second-order rounding (arXiv:2210.17323) in the ranges that the layer's optimizer finds.

    `damping` is the share of the mean diagonal added to the Hessian, `order` rounds columns by
    falling diagonal (its "act-order"); groups stay those of the original order, so that nothing is
    permuted at run time. Raises WorkbenchError where the Hessian cannot be factored.
    """

    damping: float = 0.01
    order: bool = True

    def __call__(self, layer: Layer) -> None:
        tokens, channels = layer.inputs.count, layer.weight.shape[1]
        if tokens < channels:
            few = f"{tokens} calibration tokens for {channels} input channels"
            if self.damping <= 0:
                raise WorkbenchError(
                    f"{layer.name}: {few} leave GPTQ's Hessian singular: give at least {channels} "
                    "tokens, or a damping above 0"
                )
            layer.notes.append(f"{few}: give at least {channels}, or damping decides the rest")
            logger.warning("%s: %s; give at least %d", layer.name, few, channels)
        hessian = layer.inputs.gram.clone()
        diagonal = hessian.diagonal()
        dead = diagonal == 0
        if dead.any():
            layer.notes.append(f"{int(dead.sum())} of {channels} input channels are always 0")
        diagonal += self.damping * diagonal.mean()
        diagonal[dead] = 1.0  # no error there reaches the output: any number will do
        order = torch.arange(channels, device=hessian.device)
        if self.order:
            order = layer.inputs.gram.diagonal().argsort(descending=True, stable=True)
        factor = _factor(hessian[order][:, order], layer.name).float()
        layer.rounded = _round(layer, factor, order)


def _factor(hessian: Tensor, name: str) -> Tensor:
    """The upper Cholesky factor of the inverse of `hessian`: what GPTQ's equations run on."""
    lower, failed = torch.linalg.cholesky_ex(hessian)
    if not failed:
        inverse = torch.cholesky_inverse(lower)
        factor, failed = torch.linalg.cholesky_ex(inverse, upper=True)
    if failed or not bool(factor.isfinite().all()):
        raise WorkbenchError(
            f"{name}: GPTQ's Hessian [{len(hessian)}, {len(hessian)}] is singular: give more "
            "calibration tokens, or a larger damping (0.01 by default)"
        )
    return factor


def _round(layer: Layer, factor: Tensor, order: Tensor) -> Tensor:
    """Round the columns of the weight in `order`, passing each one's error on to the next."""
    kind, weight = layer.args.qtype, layer.weight[:, order].clone()
    scale, point = (_per_column(n, layer) for n in layer.numbers)
    assert scale is not None
    rounded = torch.empty_like(weight)
    for start in range(0, weight.shape[1], COLUMNS):
        end = min(start + COLUMNS, weight.shape[1])
        block, errors = weight[:, start:end], torch.empty_like(weight[:, start:end])
        for i in range(end - start):
            column = int(order[start + i])
            numbers = scale[:, column], None if point is None else point[:, column]
            value = from_grid(to_grid(block[:, i], *numbers, kind), *numbers)
            row = factor[start + i, start + i : end]
            errors[:, i] = (block[:, i] - value) / row[0]
            block[:, i + 1 :] -= errors[:, i : i + 1] * row[1:]
            rounded[:, start + i] = value
        weight[:, end:] -= errors @ factor[start:end, end:]
    made = torch.empty_like(rounded)
    made[:, order] = rounded
    return made


def _per_column(number: Tensor | None, layer: Layer) -> Tensor | None:
    """The number of each entry of the weight, [out, in] without copies."""
    if number is None:
        return None
    rows, columns = layer.weight.shape
    if number.numel() == 1:
        return number.reshape(1, 1).expand(rows, columns)
    return number.repeat_interleave(columns // number.shape[1], dim=1)
