"""Checkpoints in GPTQ's layout, as AutoGPTQ and GPTQModel write them."""

from pathlib import Path

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.readers.base import Opened, method, read_json
from workbench.models.readers.foreign import GroupedLinear, open_grouped, packed_fields


class Gptq:
    """`w = (q - z) * scale`, words of `qweight` along the inputs, of `qzeros` along the outputs.

    The first version of the format stores z - 1. Where groups are not in the order of the inputs
    (`desc_act`), the weights come as floats.
    """

    @staticmethod
    def reads(folder: Path) -> bool:
        return method(folder) == "gptq"

    @staticmethod
    def open(folder: Path, dtype: torch.dtype) -> Opened:
        said = read_json(folder / "config.json")["quantization_config"]
        bits = said.get("bits")
        if bits not in (2, 4, 8):
            raise WorkbenchError(f"{folder} holds GPTQ of {bits} bits; allowed: 2, 4, 8")
        offset = 0 if said.get("checkpoint_format") == "gptq_v2" else 1

        def read(own: dict[str, Tensor]) -> GroupedLinear:
            values = packed_fields(own["qweight"].t(), bits).flatten(1)
            zeros = packed_fields(own["qzeros"], bits).flatten(1).t() + offset
            return GroupedLinear(values, zeros, own["scales"].t().float(), own.get("g_idx"))

        return open_grouped(folder, dtype, bits, read)
