"""The implementations of each op and what keeps one from running a layer here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from workbench.ops import embedding, linear, native

_library = torch.library.Library("workbench", "DEF")


@dataclass(frozen=True)
class Layer:
    """What of a layer decides who can compute it: a weight [rows, columns] of `bits` bits.

    `groups` along its columns have scales (and, if `affine`, zero points) of their own; `whole` is
    a weight with one scale for all. `floats`: it is stored in float8.
    """

    rows: int
    columns: int
    bits: int = 8
    groups: int = 1
    affine: bool = False
    floats: bool = False
    whole: bool = False


Obstacle = Callable[[str, Layer], str | None]


@dataclass(frozen=True)
class Implementation:
    """One way to compute `op`: its name under `torch.ops.workbench`, what it is, what bars it.

    `function` is what the op runs, on the `Arguments` of its family in one tuple.
    `panels`: it takes weights packed for the native kernels. `quick`: it is worth a measurement
    against the others.
    """

    op: str
    name: str
    function: Callable[[Any], Tensor]
    what: str
    obstacle: Obstacle  # device type and layer -> why it cannot
    panels: bool = False
    quick: bool = True

    @property
    def overload(self) -> Callable[..., Tensor]:
        """The function to call."""
        return getattr(torch.ops.workbench, self.name).default


def _register(
    family: ModuleType,
    op: str,
    name: str,
    function: Callable[[Any], Tensor],
    what: str,
    obstacle: Obstacle = lambda _device, _layer: None,
    *,
    panels: bool = False,
    quick: bool = True,
) -> Implementation:
    """Define `torch.ops.workbench.<name>` for all devices, for tracing and for autograd.

    The module `family` holds what its implementations share: `SCHEMA`, `Arguments`, `fake`,
    `setup_context` and `backward`.
    """

    def spread(function: Callable[[Any], Tensor]) -> Callable[..., Tensor]:
        return lambda *given, **named: function(family.Arguments(*given, **named))

    _library.define(name + family.SCHEMA)
    _library.impl(name, spread(function), "CompositeExplicitAutograd")
    torch.library.register_fake(f"workbench::{name}", spread(family.fake), lib=_library)
    torch.library.register_autograd(
        f"workbench::{name}", family.backward, setup_context=family.setup_context, lib=_library
    )
    return Implementation(op, name, function, what, obstacle, panels, quick)


def _native_obstacle(device: str, layer: Layer) -> str | None:
    if device != "cpu":
        return f"the native kernels are for the CPU, not for {device}"
    found = native.status()
    if found.problem:
        return found.problem
    if layer.floats or layer.bits not in native.BITS:
        kind = "float8" if layer.floats else f"{layer.bits}-bit"
        return f"no native kernel for {kind} weights"
    size = layer.columns // layer.groups
    line = 32 // layer.bits
    if layer.groups > 1 and size % line:
        return f"groups of {size} inputs are no multiple of {line}"
    return None if size < 2**17 else f"{size} inputs to a group are too many for 32-bit sums"


def _integer_obstacle(_device: str, layer: Layer) -> str | None:
    return "weights are float8" if layer.floats else None


def _int_mm_obstacle(device: str, layer: Layer) -> str | None:
    if layer.bits != 8 or layer.groups > 1 or layer.affine or layer.floats:
        return "torch._int_mm is for 8-bit weights with one scale a row and no zero point"
    return _int_mm_flaw(device)


@cache
def _int_mm_flaw(device: str) -> str | None:
    """Check `torch._int_mm` against exact arithmetic at the extremes, where a bad one saturates.

    A single row is tried too: cuBLAS refuses short ones, and decoding has no others.
    """
    try:
        q = torch.full((32, 256), -128, dtype=torch.int8, device=device)
        q[::2] = 127
        weight = torch.full((32, 256), 127, dtype=torch.int8, device=device)
        weight[1::2] = -127
        found = torch._int_mm(q, weight.t()).cpu().double()
        torch._int_mm(q[:1], weight.t())
    except (RuntimeError, NotImplementedError) as error:
        return f"torch._int_mm fails on {device}: {str(error).splitlines()[0]}"
    if not torch.equal(found, q.cpu().double() @ weight.cpu().double().t()):
        return f"torch._int_mm saturates on this {device}"
    return None


# Of each op the one expected fastest first.
implementations: tuple[Implementation, ...] = (
    _register(
        linear,
        "a8_linear",
        "a8_linear_native",
        linear.a8_native,
        "native kernels",
        _native_obstacle,
        panels=True,
    ),
    _register(
        linear,
        "a8_linear",
        "a8_linear_int_mm",
        linear.a8_int_mm,
        "torch's int8 matrix product",
        _int_mm_obstacle,
    ),
    _register(
        linear,
        "a8_linear",
        "a8_linear_reference",
        linear.a8_reference,
        "pure torch in wide floats, the reference",
        _integer_obstacle,
        quick=False,
    ),
    _register(
        linear,
        "weight_only_linear",
        "weight_only_linear_native",
        linear.weight_only_native,
        "native kernels",
        _native_obstacle,
        panels=True,
    ),
    _register(
        linear,
        "weight_only_linear",
        "weight_only_linear_reference",
        linear.weight_only_reference,
        "pure torch in wide floats, the reference",
        _integer_obstacle,
        quick=False,
    ),
    _register(
        linear,
        "dequantized_linear",
        "dequantized_linear_blocked",
        linear.dequantized_blocked,
        "torch's float product on blocks of dequantized rows",
    ),
    _register(
        embedding,
        "embedding",
        "embedding_native",
        embedding.from_panels,
        "native kernels",
        _native_obstacle,
        panels=True,
    ),
    _register(
        embedding,
        "embedding",
        "embedding_indexed",
        embedding.indexed,
        "rows indexed and dequantized by torch",
        quick=False,
    ),
)


def report(device: str = "cpu", layer: Layer | None = None) -> list[tuple[str, bool, str]]:
    """List every implementation as `(name, available, reason)`, for 8-bit weights or `layer`."""
    layer = layer or Layer(4096, 4096)
    rows = []
    for implementation in implementations:
        obstacle = implementation.obstacle(device, layer)
        rows.append((implementation.name, obstacle is None, obstacle or implementation.what))
    return rows
