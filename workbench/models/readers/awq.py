"""Checkpoints in AWQ's layout, as AutoAWQ writes them for its matrix-product kernel."""

from pathlib import Path

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.readers.base import Opened, method, read_json
from workbench.models.readers.foreign import GroupedLinear, open_grouped, packed_fields

PLACES = (0, 4, 1, 5, 2, 6, 3, 7)  # where in a word the outputs 0..7 are: 0 2 4 6 1 3 5 7 lie in it


class Awq:
    """`w = (q - z) * scale`, words along the outputs, eight nibbles in an order of their own."""

    @staticmethod
    def reads(folder: Path) -> bool:
        return method(folder) == "awq"

    @staticmethod
    def open(folder: Path, dtype: torch.dtype) -> Opened:
        said = read_json(folder / "config.json")["quantization_config"]
        form = (said.get("bits", said.get("w_bit")), str(said.get("version", "gemm")).lower())
        if form != (4, "gemm"):
            raise WorkbenchError(
                f"{folder} holds AWQ of {form[0]} bits for {form[1]}; allowed: 4, gemm"
            )
        return open_grouped(folder, dtype, 4, _linear)


def _linear(own: dict[str, Tensor]) -> GroupedLinear:
    values, zeros = (
        packed_fields(own[key], 4)[..., PLACES].flatten(1).t() for key in ("qweight", "qzeros")
    )
    return GroupedLinear(values, zeros, own["scales"].t().float())
