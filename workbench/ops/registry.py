"""The implementations of each op, what keeps one from running here, and the choice among them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from workbench.ops import w8a8, weight_only

_library = torch.library.Library("workbench", "DEF")


@dataclass(frozen=True)
class Implementation:
    """One way to compute `op`: its name under `torch.ops.workbench`, what it is, what bars it."""

    op: str
    name: str
    what: str
    obstacle: Callable[[str], str | None]  # device type -> why it cannot run there

    @property
    def overload(self) -> Callable[..., Tensor]:
        """The function to call."""
        return getattr(torch.ops.workbench, self.name).default


def register(
    family: ModuleType,
    name: str,
    function: Callable[..., Tensor],
    what: str,
    obstacle: Callable[[str], str | None] = lambda _: None,
) -> Implementation:
    """Define `torch.ops.workbench.<name>` for all devices, for tracing and for autograd.

    The module `family` holds what its implementations share: `OP`, `SCHEMA`, `fake`,
    `setup_context` and `backward`.
    """
    _library.define(name + family.SCHEMA)
    _library.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"workbench::{name}", family.fake, lib=_library)
    torch.library.register_autograd(
        f"workbench::{name}", family.backward, setup_context=family.setup_context, lib=_library
    )
    return Implementation(family.OP, name, what, obstacle)


@cache
def _int_mm_obstacle(device: str) -> str | None:
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


# Of each op the fastest first. All of one op compute the same bits, so the choice needs no record.
implementations: tuple[Implementation, ...] = (
    register(
        w8a8,
        "w8a8_linear_int_mm",
        w8a8.int_mm,
        "torch's int8 matrix product (oneDNN: AMX or VNNI)",
        _int_mm_obstacle,
    ),
    register(
        w8a8,
        "w8a8_linear_reference",
        w8a8.reference,
        "pure torch in float64, the reference",
    ),
    register(
        weight_only,
        "weight_only_linear_blocked",
        weight_only.blocked,
        "torch's float product on blocks of dequantized rows",
    ),
)


@cache
def select(op: str, device: str) -> tuple[Implementation, str]:
    """Choose the implementation of `op` for a device type; return it with the reason in words."""
    passed_over: list[str] = []
    for implementation in implementations:
        if implementation.op != op:
            continue
        obstacle = implementation.obstacle(device)
        if obstacle is None:
            return implementation, "; ".join([implementation.what, *passed_over])
        passed_over.append(obstacle)
    raise RuntimeError(f"no implementation of {op} runs on {device}: {'; '.join(passed_over)}")


def report(device: str = "cpu") -> list[tuple[str, bool, str]]:
    """List every implementation as `(name, available, reason)`, in order of preference."""
    rows = []
    for implementation in implementations:
        obstacle = implementation.obstacle(device)
        rows.append((implementation.name, obstacle is None, obstacle or implementation.what))
    return rows
