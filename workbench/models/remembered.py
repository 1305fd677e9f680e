"""A model that answers known batches from memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.progress import track


class Remembered(nn.Module):
    """What `model` puts out for `batches`, computed once; keys and values are let go."""

    def __init__(self, model: nn.Module, batches: Sequence[Mapping[str, Tensor]]) -> None:
        super().__init__()
        with torch.inference_mode():
            found = [_bare(model(**batch)) for batch in track(batches, "running the float model")]
        pairs = zip(batches, found, strict=True)
        self.outputs = {id(tensor): one for batch, one in pairs for tensor in batch.values()}

    def forward(self, **batch: Tensor) -> Any:
        return self.outputs[id(next(iter(batch.values())))]


def _bare(outputs: Any) -> Any:
    if not isinstance(outputs, Mapping):
        return outputs
    return type(outputs)(**{k: v for k, v in outputs.items() if k != "past_key_values"})
