"""What makes `from_pretrained` and `save_pretrained` of transformers know our checkpoints."""

from workbench.models.formats import METHOD
from workbench.models.hf.attention import register_attention
from workbench.models.hf.causal import QuantizedModelForCausalLM
from workbench.models.hf.config import ClaimedConfig, WorkbenchConfig
from workbench.models.hf.quantizer import WorkbenchQuantizer, attach, mark
from workbench.models.hf.shapes import install
from workbench.quant.freeze import when_frozen
from workbench.quant.quantize import when_changed

__all__ = ["METHOD", "QuantizedModelForCausalLM", "WorkbenchConfig", "attach", "register"]


def register() -> None:
    """Tell transformers of what we have for it; called when its models are imported."""
    from transformers.quantizers import auto

    install()
    register_attention()
    auto.AUTO_QUANTIZATION_CONFIG_MAPPING[METHOD] = WorkbenchConfig
    auto.AUTO_QUANTIZER_MAPPING[METHOD] = WorkbenchQuantizer
    if attach not in when_frozen:
        when_frozen.append(attach)
        when_changed.append(mark)
    # Its own loader, where it is installed, computes something else and refuses packed zero points.
    auto.AUTO_QUANTIZATION_CONFIG_MAPPING["compressed-tensors"] = ClaimedConfig
