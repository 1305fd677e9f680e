"""What a saved checkpoint says of itself beyond the transformers config."""

import json
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from workbench.errors import WorkbenchError

MANIFEST = "workbench.json"
FORMAT_VERSION = 1
# These keep float32 whatever the model's dtype: rounding a scale changes every value it scales.
SCALES = ("weight_scale", "input_scale", "input_transform")


class Manifest(BaseModel):
    """Format version, dtype of the float tensors in memory, and how each module is quantized."""

    model_config = ConfigDict(extra="forbid")

    format_version: int = FORMAT_VERSION
    dtype: str
    note: str = ""
    quantization_map: dict[str, dict[str, Any]] = {}

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read the manifest at `path`, None if there is none; raises WorkbenchError if unusable."""
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            version = values["format_version"]
            if version > FORMAT_VERSION:
                raise WorkbenchError(
                    f"{path.parent} was written in format {version}; this version reads up to "
                    f"{FORMAT_VERSION}: install a newer quantization-workbench"
                )
            return cls.model_validate(values)
        except (json.JSONDecodeError, KeyError, TypeError, ValidationError) as error:
            raise WorkbenchError(f"{path} is damaged: {error}") from error

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of float tensors in memory."""
        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise WorkbenchError(f"the checkpoint names dtype {self.dtype!r}, which torch lacks")
        return dtype

    def restore(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give tensors that were stored shorter, at no loss, their dtype back."""
        return {
            key: tensor.to(self.torch_dtype)
            if tensor.is_floating_point() and not key.endswith(SCALES)
            else tensor
            for key, tensor in tensors.items()
        }
