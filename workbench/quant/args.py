"""How to quantize one kind of tensor, validated at the door."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from workbench.errors import WorkbenchError
from workbench.quant.qtypes import aliases, qtype, qtypes

Granularity = Literal["tensor", "channel", "group", "token"]
OBSERVERS = ("max", "momentum", "percentile", "mse", "entropy")


class QuantArgs(BaseModel):
    """Number type, granularity and calibration of the weights or activations of a layer.

    `granularity` is "tensor" (one scale), "channel" (one for each output channel of a weight),
    "group" (one for each `group_size` inputs of it; None: the largest of 128, 96, 64, 32 that
    divides them, else one group) or "token" (one for each row of an activation, computed as it
    passes, hence `dynamic`). `symmetric` numbers have no zero point. `observer` names what watches
    a static activation during calibration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: str = "int8"
    granularity: Granularity = "channel"
    group_size: int | None = None
    symmetric: bool = True
    dynamic: bool = False
    observer: str = "max"

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, value: str) -> str:
        value = aliases.get(value, value)
        if value not in qtypes:
            raise ValueError(f"unknown dtype {value!r}; allowed: {', '.join(sorted(qtypes))}")
        return value

    @field_validator("observer")
    @classmethod
    def _known_observer(cls, value: str) -> str:
        if value not in OBSERVERS:
            raise ValueError(f"unknown observer {value!r}; allowed: {', '.join(OBSERVERS)}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.group_size is not None and self.granularity != "group":
            raise ValueError(
                f"group_size {self.group_size} with granularity {self.granularity!r}: "
                "a group_size goes with granularity 'group' only"
            )
        if self.group_size is not None and self.group_size < 1:
            raise ValueError(f"group_size {self.group_size} is below 1")
        if self.qtype.is_float and not self.symmetric:
            raise ValueError(f"{self.dtype} has no zero point: set symmetric=True")
        if self.granularity == "token" and not self.dynamic:
            raise ValueError("granularity 'token' is computed as tokens pass: set dynamic=True")
        return self

    @property
    def qtype(self) -> qtype:
        """The number type that `dtype` names."""
        return qtypes[self.dtype]

    def resolved(self, name: str, columns: int) -> Self:
        """The same with a group size that divides `columns`, for the module `name`.

        Raises WorkbenchError where a `group_size` was given that does not.
        """
        if self.granularity != "group":
            return self
        if self.group_size is None:
            fitting = (size for size in GROUP_SIZES if columns % size == 0)
            return self.model_copy(update={"group_size": next(fitting, max(columns, 1))})
        if columns % self.group_size:
            raise WorkbenchError(
                f"group_size {self.group_size} does not divide the {columns} inputs of {name}; "
                "allowed: a divisor, or None for the largest of "
                f"{', '.join(map(str, GROUP_SIZES))} that does"
            )
        return self


GROUP_SIZES = (128, 96, 64, 32)  # in the order that quanto tries them

ArgsLike = QuantArgs | qtype | str | None


def weight_args(value: ArgsLike) -> QuantArgs | None:
    """Read `value` as weight arguments.

    A bare 8-bit type means symmetric, one scale per output channel; a shorter one means affine,
    in groups. Raises WorkbenchError for what cannot be a weight.
    """
    args = _read(value, "weights", [*qtypes, *aliases])
    if args is None:
        return None
    if not isinstance(value, QuantArgs):
        if args.qtype.packed:
            return args.model_copy(update={"granularity": "group", "symmetric": False})
        return args
    if args.granularity == "token" or args.dynamic:
        raise WorkbenchError(
            f"weights per {args.granularity}, dynamic={args.dynamic}, make no sense; allowed: "
            "granularity 'tensor', 'channel' or 'group', dynamic=False"
        )
    return args


def activation_args(value: ArgsLike) -> QuantArgs | None:
    """Read `value` as activation arguments; a bare type means symmetric, per tensor, static.

    Raises WorkbenchError for what cannot be an activation.
    """
    allowed = [name for name, kind in qtypes.items() if not kind.packed]
    args = _read(value, "activations", [*allowed, *aliases])
    if args is None:
        return None
    if not isinstance(value, QuantArgs):
        args = args.model_copy(update={"granularity": "tensor"})
    if args.qtype.packed:
        raise WorkbenchError(
            f"activations={args.dtype} is too short; allowed: {', '.join(allowed)}"
        )
    if args.granularity not in ("tensor", "token"):
        raise WorkbenchError(
            f"activations per {args.granularity} cannot be multiplied by integers; allowed: "
            "'tensor' (static or dynamic) or 'token' (dynamic)"
        )
    return args


def _read(value: ArgsLike, what: str, allowed: list[str]) -> QuantArgs | None:
    if value is None or isinstance(value, QuantArgs):
        return value
    name = value.dtype if isinstance(value, qtype) else str(value).removeprefix("q")
    name = aliases.get(name, name)
    if name not in qtypes:
        raise WorkbenchError(
            f"{what}={value!r} is no known number type; allowed: {', '.join(allowed)}"
        )
    return QuantArgs(dtype=name)
