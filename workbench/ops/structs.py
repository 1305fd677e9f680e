"""The structs of the kernels' C interface: which of them each function reads, their pointers."""

import re
from struct import Struct

# `P` is a pointer, `q` an integer. (ctypes' own structures cost microseconds.)
INPUT = Struct("P6qPqP2q")
OUTPUT = Struct("PqPqPqPqqPq")
SOURCE = Struct("4qPqPqPPPqPqq")
HEADS = Struct("8q3P9qP5qP")
ROTATION = Struct("5qP3qPP2qP")

# In the order of `enum wb_function`; the last struct of each may be an array of them.
FUNCTIONS: dict[str, tuple[Struct, ...]] = {
    "wb_linears": (INPUT, OUTPUT),
    "wb_rows": (SOURCE,),
    "wb_source_linears": (SOURCE, INPUT, OUTPUT),
    "wb_rotate": (ROTATION,),
    "wb_attention": (HEADS,),
}


def pointers(struct: Struct, size: int) -> list[int]:
    """Where the pointers are in `size` bytes of `struct` after `struct`."""
    fields = "".join(
        kind * int(many or 1) for many, kind in re.findall(r"(\d*)([Pq])", struct.format)
    )
    own = [8 * index for index, kind in enumerate(fields) if kind == "P"]
    return [start + at for start in range(0, size, struct.size) for at in own]
