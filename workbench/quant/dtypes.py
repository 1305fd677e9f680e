"""Names of torch's dtypes, as checkpoints write them."""

import torch

from workbench.errors import WorkbenchError


def torch_dtype(name: str) -> torch.dtype:
    """The dtype that torch calls `name`; raises WorkbenchError where it has none."""
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise WorkbenchError(f"the checkpoint names dtype {name!r}, which torch lacks")
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """What torch calls `dtype`."""
    return str(dtype).removeprefix("torch.")
