"""Quantized embeddings: only the rows that are looked up are dequantized."""

from torch import Tensor, nn

from workbench.quant.modules.base import QModule
from workbench.quant.modules.registry import register_qmodule


@register_qmodule(nn.Embedding)
class QEmbedding(QModule, nn.Embedding):  # type: ignore[misc] # torch annotates `freeze`
    """A quantized `nn.Embedding`; its inputs are token ids, which nothing rounds."""

    rounds_activations = False

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Embedding's own name
        if not self.frozen:
            weight = self.weight_now()
            return nn.functional.embedding(input, weight, self.padding_idx)
        rows = self.stored()[input.flatten()]
        return rows.dequantize().view(*input.shape, self.shapes["weight"][1])
