"""What a layer could become: number types of several widths, each with a scheme."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.quant import Optimizer, QModule, QuantArgs
from workbench.quant.args import ArgsLike, weight_args
from workbench.quant.modules import class_for

WIDTHS = (2, 3, 4, 6, 8)


def widths(args: QuantArgs) -> list[QuantArgs]:
    """The same scheme with integers of every width there is: 2, 3, 4, 6 and 8 bits."""
    return [with_bits(args, bits) for bits in WIDTHS]


def with_bits(args: QuantArgs, bits: int) -> QuantArgs:
    """The same scheme with integers of so many bits; raises WorkbenchError for what is no width."""
    if bits not in WIDTHS:
        allowed = ", ".join(map(str, WIDTHS))
        raise WorkbenchError(f"{bits} bits are no width of integers; allowed: {allowed}")
    return args.model_copy(update={"dtype": f"int{bits}"})


def read_candidates(values: Iterable[ArgsLike] | None) -> dict[str, QuantArgs]:
    """Name each of `values`, by default affine integers in groups.

    Raises WorkbenchError where two are the same or there are none.
    """
    if values is None:
        values = widths(QuantArgs(granularity="group", symmetric=False))
    made: dict[str, QuantArgs] = {}
    for value in values:
        args = weight_args(value)
        if args is None:
            raise WorkbenchError("a candidate is None: float layers are left out with `exclude`")
        name = _name(args)
        if name in made:
            raise WorkbenchError(f"candidate {name} is given twice: each must differ from the rest")
        made[name] = args
    if not made:
        raise WorkbenchError("no candidates: give at least one number type, such as 'int4'")
    return made


def _name(args: QuantArgs) -> str:
    grain = f" group {args.group_size}" if args.group_size else f" per {args.granularity}"
    return f"{args.dtype}{grain}{'' if args.symmetric else ' affine'}"


def rounded(
    name: str, module: nn.Module, args: QuantArgs, optimizer: Optimizer | None
) -> tuple[QModule, Tensor]:
    """The float linear `module` quantized by `args`, and the weight that its integers stand for."""
    kind = class_for(module, args)
    assert kind is not None
    made = kind.from_float(module, args, None, optimizer, name)
    return made, made.fake_quantize_weight()


def rounding_error(
    name: str, module: nn.Module, args: QuantArgs, optimizer: Optimizer | None
) -> tuple[Tensor, Tensor]:
    """The weight [out, in] of the float linear `module`, and what `args` would add to it."""
    made, found = rounded(name, module, args, optimizer)
    weight = module.weight
    assert isinstance(weight, Tensor)
    return made.oriented(weight.detach()).float(), made.oriented(found - weight).detach().float()


def stored_bytes(shape: Sequence[int], args: QuantArgs) -> int:
    """Bytes of a weight [out, in] saved like that: integers, scales, zero points, and the shape
    where integers are packed."""
    out, columns = shape
    resolved = args.resolved("", columns)
    if resolved.granularity == "tensor":
        blocks = 1
    else:
        blocks = out * (columns // resolved.group_size if resolved.group_size else 1)
    whole_points = resolved.qtype.bits >= 4
    point = 0 if resolved.symmetric else 1 if whole_points else 4
    described = 16 if resolved.qtype.packed else 0
    return out * -(-columns * resolved.qtype.bits // 32) * 4 + blocks * (4 + point) + described
