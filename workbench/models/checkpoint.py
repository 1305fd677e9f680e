"""The safetensors of a folder, in one file or in shards."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.ops.mapped import aligned

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
}


@dataclass(frozen=True)
class Checkpoint:
    """The files that hold the tensors of a model; nothing is read before it is asked for."""

    files: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path) -> "Checkpoint":
        """Find the files in `folder`; raises WorkbenchError where there are none, or not all."""
        if (folder / SINGLE).is_file():
            return cls((folder / SINGLE,))
        if not (folder / INDEX).is_file():
            pickle = next((p for p in sorted(folder.glob("*")) if p.suffix in PICKLES), None)
            if pickle is not None:
                raise WorkbenchError(_pickled(pickle))
            raise WorkbenchError(f"{folder} holds no {SINGLE} and no {INDEX}")
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            names = sorted(set(index["weight_map"].values()))
            lacking = [n for n in names if Path(n).name != n or not (folder / n).is_file()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WorkbenchError(f"{folder / INDEX} is damaged: {error}") from error
        if lacking:
            raise WorkbenchError(
                f"{folder} lacks {lacking[0]}, one of {len(names)} files that {INDEX} lists"
            )
        return cls(tuple(folder / name for name in names))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, mapped from the files where they lie well."""
        found: dict[str, Tensor] = {}
        for path in self.files:
            with _opened(path) as file:
                for key in file.keys():  # noqa: SIM118
                    found[key] = aligned(file.get_tensor(key))
        return found

    def outlines(self) -> dict[str, Tensor]:
        """All tensors by name, on the meta device but for `weight_shape`, which has its value."""
        found: dict[str, Tensor] = {}
        for path in self.files:
            with _opened(path) as file:
                for key in file.keys():  # noqa: SIM118
                    part = file.get_slice(key)
                    if key.endswith("weight_shape"):
                        found[key] = file.get_tensor(key)
                        continue
                    dtype = DTYPES.get(part.get_dtype())
                    if dtype is None:
                        raise WorkbenchError(
                            f"{key} in {path} is {part.get_dtype()}; allowed: {', '.join(DTYPES)}"
                        )
                    found[key] = torch.empty(part.get_shape(), dtype=dtype, device="meta")
        return found


PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}


def _pickled(path: Path) -> str:
    return (
        f"{path.parent} holds its weights as a pickle ({path.name}), which can run any code when "
        "it is read: only safetensors are; convert it where you trust it"
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file of safetensors; what is wrong with it becomes one sentence."""
    if path.suffix in PICKLES:
        raise WorkbenchError(_pickled(path))
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise WorkbenchError(f"{path} is missing, truncated or corrupt: {error}") from error
