"""How to quantize one kind of tensor, validated at the door."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from workbench.errors import WorkbenchError
from workbench.quant.observers import observers
from workbench.quant.qtypes import qtype, qtypes

Granularity = Literal["tensor", "channel", "group", "token"]


class QuantArgs(BaseModel):
    """Number type, granularity and calibration of the weights or activations of a layer.

    `granularity` is "tensor" (one scale), "channel" (one for each output channel of a weight),
    "group" (one for each `group_size` inputs of it) or "token" (one for each row of an activation,
    computed as it passes, hence `dynamic`). `observer` names what watches a static activation
    during calibration.
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
        if value not in qtypes:
            raise ValueError(f"unknown dtype {value!r}; allowed: {', '.join(sorted(qtypes))}")
        return value

    @field_validator("observer")
    @classmethod
    def _known_observer(cls, value: str) -> str:
        if value not in observers:
            raise ValueError(f"unknown observer {value!r}; allowed: {', '.join(sorted(observers))}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.group_size is not None) != (self.granularity == "group"):
            raise ValueError(
                f"group_size {self.group_size} with granularity {self.granularity!r}: "
                "give a group_size with granularity 'group' and only there"
            )
        if self.granularity == "token" and not self.dynamic:
            raise ValueError("granularity 'token' is computed as tokens pass: set dynamic=True")
        return self

    @property
    def qtype(self) -> qtype:
        """The number type that `dtype` names."""
        return qtypes[self.dtype]


ArgsLike = QuantArgs | qtype | str | None

_WEIGHTS = {("channel", True, False)}
_ACTIVATIONS = {("tensor", True, False), ("token", True, True)}


def weight_args(value: ArgsLike) -> QuantArgs | None:
    """Read `value` as weight arguments; a bare type means symmetric, per output channel."""
    args = _read(value, "weights", granularity="channel")
    return _supported(args, "weights", _WEIGHTS, "int8 per channel, symmetric")


def activation_args(value: ArgsLike) -> QuantArgs | None:
    """Read `value` as activation arguments; a bare type means symmetric, per tensor, static."""
    args = _read(value, "activations", granularity="tensor")
    allowed = "int8 symmetric, either per tensor and static or per token and dynamic"
    return _supported(args, "activations", _ACTIVATIONS, allowed)


def _read(value: ArgsLike, what: str, granularity: Granularity) -> QuantArgs | None:
    if value is None or isinstance(value, QuantArgs):
        return value
    name = value.dtype if isinstance(value, qtype) else str(value).removeprefix("q")
    if name not in qtypes:
        allowed = ", ".join(sorted(qtypes))
        raise WorkbenchError(f"{what}={value!r} is no known number type; allowed: {allowed}")
    return QuantArgs(dtype=name, granularity=granularity)


def _supported(
    args: QuantArgs | None, what: str, known: set[tuple[str, bool, bool]], allowed: str
) -> QuantArgs | None:
    if args is None or (args.granularity, args.symmetric, args.dynamic) in known:
        return args
    raise WorkbenchError(
        f"{what} as {args.dtype} per {args.granularity}, symmetric={args.symmetric}, "
        f"dynamic={args.dynamic} cannot run here; allowed: {allowed}"
    )
