"""What makes `from_pretrained` and `save_pretrained` of transformers know our checkpoints."""

from transformers.utils.import_utils import is_compressed_tensors_available

from workbench.models.formats import METHOD
from workbench.models.hf.causal import QuantizedModelForCausalLM
from workbench.models.hf.config import ClaimedConfig, WorkbenchConfig
from workbench.models.hf.quantizer import WorkbenchQuantizer, attach
from workbench.quant.freeze import when_frozen

__all__ = ["METHOD", "QuantizedModelForCausalLM", "WorkbenchConfig", "attach", "register"]


def register() -> None:
    """Tell transformers of our quantizer; called when its models are imported."""
    from transformers.quantizers import auto

    auto.AUTO_QUANTIZATION_CONFIG_MAPPING[METHOD] = WorkbenchConfig
    auto.AUTO_QUANTIZER_MAPPING[METHOD] = WorkbenchQuantizer
    if attach not in when_frozen:
        when_frozen.append(attach)
    if not is_compressed_tensors_available():
        auto.AUTO_QUANTIZATION_CONFIG_MAPPING["compressed-tensors"] = ClaimedConfig
