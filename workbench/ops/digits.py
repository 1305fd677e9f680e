"""Products of activations in 8-bit digits with integer weights: the truth that kernels are held to.

An activation becomes an integer of one to three digits, v = sum digit_d 256^d, with a step for each
row or one for all. A weight is (q - zero_point) * scale, in groups along the inputs. Then

    v = clamp(round(x * multiplier / step))
    t = sum over a group of v * q          exact for each digit; joined t = t * 256 + next digit
    y = (sum over groups of (t - zero_point * sum v) * scale) * step + bias

in float32, groups in ascending order, every operation rounded by itself. One digit is W8A8's way of
quantizing activations, per tensor or per token; three hold a float32 activation to 2^-24 of the
largest of its row, two a 16-bit one to 2^-16.
"""

import torch
from torch import Tensor

LARGEST = {1: 127, 2: 32639, 3: 8355711}  # of so many digits, each in -127 .. 127


def to_digits(
    x: Tensor, input_scale: Tensor | None, multiplier: Tensor | None, count: int = 1
) -> tuple[list[Tensor], Tensor]:
    """Digits [rows, K] int8, the highest first, of `x` [rows, K]; and the step, [1] or [rows, 1].

    With `input_scale` the step is static and `multiplier` holds its inverse. A row that holds NaN
    or infinity gets a step of NaN where steps are its own.
    """
    scaled = x.to(torch.float32) if multiplier is None else x * multiplier
    low = -128 if count == 1 else -LARGEST[count]
    if input_scale is not None:
        step = input_scale
    else:
        # A row of zeros has no step of its own; any positive one represents it exactly.
        step = scaled.abs().amax(-1, keepdim=True).div_(LARGEST[count]).clamp_min_(1e-30)
        step += step - step  # infinity less infinity is NaN
        scaled = scaled * step.reciprocal()
    whole = scaled.round().clamp_(low, LARGEST[count]).nan_to_num_(nan=0.0)
    if count == 1:
        return [whole.to(torch.int8)], step
    rest = whole.to(torch.int32)
    digits = []
    for _ in range(count - 1):
        digit = ((rest + 128) & 255) - 128
        digits.append(digit.to(torch.int8))
        rest = (rest - digit) >> 8
    return [rest.to(torch.int8), *reversed(digits)], step


def multiply(
    digits: list[Tensor], weight: Tensor, scale: Tensor, zero_point: Tensor | None
) -> Tensor:
    """`y` before the step: digits [rows, K] times int8 `weight` [N, K], in float32 [rows, N].

    `scale` and `zero_point` are [N, groups] or [1].
    """
    groups = 1 if scale.dim() < 2 else scale.shape[1]
    size = weight.shape[1] // groups
    out: Tensor | None = None
    for g in range(groups):
        part = slice(g * size, (g + 1) * size)
        q = weight[:, part]
        total = joined([exact_product(digit[:, part], q) for digit in digits])
        by = scale if scale.dim() < 2 else scale[:, g]
        if zero_point is not None:
            middle = zero_point if scale.dim() < 2 else zero_point[:, g]
            sums = joined([digit[:, part].sum(-1, keepdim=True).float() for digit in digits])
            total = total - middle.float() * sums
        total = total * by
        out = total if out is None else out + total
    assert out is not None
    return out


def joined(parts: list[Tensor]) -> Tensor:
    """The number whose float32 digits these are."""
    total = parts[0]
    for part in parts[1:]:
        total = total * 256 + part
    return total


def exact_product(digit: Tensor, weight: Tensor) -> Tensor:
    """`digit` [rows, K] times `weight` [N, K], both int8, rounded once to float32."""
    # Sums below 2^24 are exact in float32 in whatever order; others want float64.
    wide = torch.float32 if weight.shape[1] * 2**14 <= 2**24 else torch.float64
    return (digit.to(wide) @ weight.to(wide).t()).to(torch.float32)


def finish(product: Tensor, step: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """Apply step and bias to `product` [rows, N]; give it the leading shape and dtype of `x`."""
    product.mul_(step)
    if bias is not None:
        product.add_(bias)
    return product.to(x.dtype).view(*x.shape[:-1], product.shape[-1])
