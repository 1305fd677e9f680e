"""The native CPU kernels (`kernels/`): find the library, say what it can do, call it.

The environment chooses: WORKBENCH_KERNELS names a level to use instead of the fastest, or "none"
for the torch paths; WORKBENCH_KERNELS_LIBRARY is the path of another build of the library.
"""

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch  # loaded before the library, which shares torch's OpenMP threads
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.ops import pages
from workbench.ops.structs import INPUT, OUTPUT

INTERFACE = 4  # WB_INTERFACE in kernels/include/workbench_kernels.h
BITS = (2, 4, 8)
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.int8: 3, torch.bool: 4}
ACTIVATIONS = {"none": 0, "relu": 1, "gelu": 2, "gelu_tanh": 3, "silu": 4}
HOW_TO_BUILD = "install a C++ compiler and reinstall quantization-workbench to build them"

_P, _I, _L, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_char_p
_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "wb_interface": (_I, ()),
    "wb_levels": (_I, ()),
    "wb_level_name": (ctypes.c_char_p, (_I,)),
    "wb_level_obstacle": (ctypes.c_char_p, (_I,)),
    "wb_level": (_I, ()),
    "wb_set_level": (_I, (_I,)),
    "wb_packed_bytes": (_L, (_L, _L, _I)),
    "wb_pack": (None, (_P, _L, _L, _I, _P)),
    "wb_unpack": (None, (_P, _L, _L, _I, _P)),
    "wb_linears": (_I, (_S, _S, _I)),
    "wb_rows": (_I, (_S, ctypes.c_float, _I)),
    "wb_source_linears": (_I, (_S, ctypes.c_float, _S, _S, _I)),
    "wb_rotate": (_I, (_S, _I)),
    "wb_attention": (_I, (_S, ctypes.c_float, _I)),
    "wb_run": (_I, (_S, _I)),
    "wb_embedding": (_I, (_P, _L, _P, _I, _L, _L, _L, _P, _I, _P, _I, _P, _I)),
    "wb_peak": (ctypes.c_double, (ctypes.c_double,)),
}


@dataclass(frozen=True)
class Native:
    """The library at `path`, or the `problem` that keeps it away; what `levels` it has.

    Each level comes with what bars it here, or None; `level` is the one in use.
    """

    path: Path | None
    problem: str | None
    level: str | None = None
    levels: tuple[tuple[str, str | None], ...] = ()


@cache
def _load() -> tuple[ctypes.CDLL | None, Path | None, str | None]:
    if os.environ.get("WORKBENCH_KERNELS") == "none":
        return None, None, "WORKBENCH_KERNELS=none asks for the torch paths"
    path = _path()
    if path is None:
        return None, None, f"this installation has no native kernels: {HOW_TO_BUILD}"
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return None, path, f"{path.name} cannot be used: {error}"
    if library.wb_interface() != INTERFACE:
        return None, path, f"{path.name} is of another version; reinstall quantization-workbench"
    _check_wish(library)
    return library, path, None


def _path() -> Path | None:
    other = os.environ.get("WORKBENCH_KERNELS_LIBRARY")
    if other:
        return Path(other)
    found = Path(str(files("workbench.ops") / "libworkbench_kernels.so"))
    return found if found.is_file() else None


def _levels(library: ctypes.CDLL) -> tuple[tuple[str, str | None], ...]:
    def text(value: bytes | None) -> str | None:
        return None if value is None else value.decode()

    return tuple(
        (text(library.wb_level_name(i)) or "", text(library.wb_level_obstacle(i)))
        for i in range(library.wb_levels())
    )


def _check_wish(library: ctypes.CDLL) -> None:
    """Refuse a level in the environment that is unknown, or that this machine cannot run."""
    wanted = os.environ.get("WORKBENCH_KERNELS")
    if not wanted:
        return
    levels = dict(_levels(library))
    able = ", ".join(["none", *(name for name, obstacle in levels.items() if obstacle is None)])
    if wanted not in levels:
        raise WorkbenchError(f"WORKBENCH_KERNELS={wanted} is no level; allowed here: {able}")
    if levels[wanted] is not None:
        raise WorkbenchError(f"WORKBENCH_KERNELS={wanted}: {levels[wanted]}; allowed here: {able}")


def library() -> ctypes.CDLL:
    """The loaded library; raises WorkbenchError where there is none."""
    found, _, problem = _load()
    if found is None:
        raise WorkbenchError(problem or "")
    return found


@cache
def function(name: str) -> Any:
    """The function `name` of the library."""
    return getattr(library(), name)


Written = list[tuple[str, tuple[Any, ...]]]  # calls: of which function, with what
_written: ContextVar[Written | None] = ContextVar("written", default=None)


def call(name: str, *given: Any) -> int:
    """Call the function `name`; not 0 where it fails."""
    written = _written.get()
    if written is not None:
        written.append((name, given))
    return function(name)(*given)  # type: ignore[no-any-return]


@contextmanager
def recording() -> Iterator[Written]:
    """Write down what is called inside, in this thread."""
    written: Written = []
    token = _written.set(written)
    try:
        yield written
    finally:
        _written.reset(token)


def status() -> Native:
    """What there is of native kernels; raises WorkbenchError where the environment asks wrongly."""
    found, path, problem = _load()
    if found is None:
        return Native(path, problem)
    levels = _levels(found)
    return Native(path, None, levels[found.wb_level()][0], levels)


def set_level(name: str) -> None:
    """Use the level `name` from now on; raises WorkbenchError where it cannot run here."""
    levels = dict(status().levels)
    if levels.get(name, "there is no such level") is not None:
        raise WorkbenchError(f"{name}: {levels.get(name, 'there is no such level')}")
    library().wb_set_level(list(levels).index(name))


def peak(seconds: float = 0.2) -> float:
    """8-bit multiply-adds per second of one core at the level in use, on its first cache."""
    return float(library().wb_peak(seconds))


def pack(values: Tensor, bits: int) -> Tensor:
    """Pack int8 [rows, columns] for the kernels: uint8 [bytes]."""
    rows, columns = values.shape
    values = values.contiguous()
    packed = pages.empty(library().wb_packed_bytes(rows, columns, bits))
    library().wb_pack(values.data_ptr(), rows, columns, bits, packed.data_ptr())
    return packed


def unpack(packed: Tensor, bits: int, rows: int, columns: int) -> Tensor:
    """Undo `pack`, on the device of `packed`: int8 [rows, columns]."""
    if packed.is_meta:
        return torch.empty(rows, columns, dtype=torch.int8, device="meta")
    here = packed.cpu()
    values = torch.empty(rows, columns, dtype=torch.int8)
    library().wb_unpack(here.data_ptr(), rows, columns, bits, values.data_ptr())
    return values.to(packed.device)


class Weight(NamedTuple):
    """A packed weight [rows, columns], its numbers and what comes after the product.

    `scale` and `zero_point` are in panels (`workbench.ops.weights.by_panel`), or [1].
    """

    packed: Tensor
    scale: Tensor
    zero_point: Tensor | None
    rows: int
    bias: Tensor | None = None
    activation: str = "none"


def described(weight: Weight, y: Tensor) -> bytes:
    """struct wb_output."""
    packed, scale, point, rows, bias, activation = weight
    one_scale = scale.dim() == 1
    if not one_scale and scale.dim() != 3:
        raise RuntimeError(f"the kernels read scales in panels, not {list(scale.shape)}")
    return OUTPUT.pack(
        packed.data_ptr(),
        rows,
        scale.data_ptr(),
        one_scale,
        0 if point is None else point.data_ptr(),
        0 if point is None else DTYPES[point.dtype],
        0 if bias is None else bias.data_ptr(),
        0 if bias is None else DTYPES[bias.dtype],
        ACTIVATIONS[activation],
        y.data_ptr(),
        DTYPES[y.dtype],
    )


def linears(
    x: Tensor,
    weights: Sequence[Weight],
    bits: int,
    columns: int,
    input_scale: Tensor | None,
    multiplier: Tensor | None,
    digits: int,
) -> list[Tensor]:
    """`x` [..., columns] times each of several weights, as the header of the kernels says.

    Raises RuntimeError where `x` has another width, or is not on the CPU.
    """
    shape = x.shape
    if not x.is_cpu or not shape or shape[-1] != columns:
        raise RuntimeError(
            f"the kernels multiply inputs [..., {columns}] on the CPU by these weights, not "
            f"{list(shape)} on {x.device}"
        )
    dtype = x.dtype
    if dtype not in FLOATS:
        narrow = [w._replace(bias=None if w.bias is None else w.bias.float()) for w in weights]
        wide = linears(x.float(), narrow, bits, columns, input_scale, multiplier, digits)
        return [y.to(dtype) for y in wide]
    count, stride = x.numel() // columns if columns else prod(shape[:-1]), columns
    if not x.is_contiguous():
        x = x.reshape(-1, columns)
        if x.stride(1) != 1 and columns > 1:
            x = x.contiguous()
        stride = x.stride(0)
    made = [x.new_empty((*shape[:-1], weight.rows)) for weight in weights]
    first = weights[0].scale
    failed = call(
        "wb_linears",
        INPUT.pack(
            x.data_ptr(),
            DTYPES[dtype],
            stride,
            count,
            columns,
            bits,
            1 if first.dim() < 2 else first.shape[1],
            0 if multiplier is None else multiplier.data_ptr(),
            multiplier is not None and multiplier.numel() == 1,
            0 if input_scale is None else input_scale.data_ptr(),
            digits,
            torch.get_num_threads(),
        ),
        b"".join(map(described, weights, made)),
        len(made),
    )
    if failed:
        raise RuntimeError(
            f"the kernels refuse {weights[0].rows} x {columns} weights of {bits} bits"
        )
    return made


def embedding(
    ids: Tensor,
    packed: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    bits: int,
    rows: int,
    columns: int,
    dtype: torch.dtype,
) -> Tensor:
    """The rows `ids` [...] of packed weights, dequantized: [..., columns] of a float `dtype`."""
    wanted = ids.to(torch.int64).contiguous()
    out = torch.empty(*ids.shape, columns, dtype=dtype)
    one_scale = scale.dim() < 2
    failed = library().wb_embedding(
        wanted.data_ptr(),
        wanted.numel(),
        packed.data_ptr(),
        bits,
        rows,
        columns,
        1 if one_scale else scale.shape[1],
        scale.data_ptr(),
        one_scale,
        None if zero_point is None else zero_point.data_ptr(),
        0 if zero_point is None else DTYPES[zero_point.dtype],
        out.data_ptr(),
        DTYPES[dtype],
    )
    if failed:
        raise IndexError(f"an id is outside the {rows} rows of the embedding")
    return out
