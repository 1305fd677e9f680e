"""Quantized embeddings: only the rows that are looked up are dequantized."""

from torch import Tensor, nn

from workbench import ops
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
        return self._run(input, *self.stored_weight(), self.like.dtype)

    def prepare(self) -> None:
        assert self.weights is not None
        self._bits = self.weights.qtype.bits
        # In panels only where a tied head holds them so: looking up is quick either way.
        name = "embedding_indexed" if self._buffers["panels"] is None else "embedding_native"
        chosen = next(one for one in ops.implementations if one.name == name)
        self.op, self._run, self.op_reason = chosen.name, chosen.overload, chosen.what
