"""The quantizer that transformers calls while it loads and saves a model."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.quantizers.base import HfQuantizer

from workbench.errors import WorkbenchError
from workbench.models.checkpoint import Checkpoint
from workbench.models.formats import METHOD
from workbench.models.hf.config import WorkbenchConfig
from workbench.models.hf.frozen import FrozenLoader
from workbench.models.hf.on_load import QuantizeOnLoad, begin, finish, is_quantized_on_load
from workbench.models.manifest import Manifest
from workbench.models.on_disk import OnDisk
from workbench.models.save import described
from workbench.quant import QModule, dequantize


class WorkbenchQuantizer(HfQuantizer):
    """Loads frozen checkpoints of ours, and quantizes the weights of float models as they come."""

    quantization_config: WorkbenchConfig
    requires_calibration = False

    def __init__(self, quantization_config: WorkbenchConfig, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self.frozen: FrozenLoader | None = None
        self.waiting: list[str] = []
        if self.pre_quantized:
            if quantization_config.manifest is None:
                raise WorkbenchError(
                    "the quantization_config of this checkpoint has no manifest: it is damaged, or "
                    "was not written by workbench"
                )
            self.frozen = FrozenLoader(Manifest.parse(quantization_config.manifest, "config.json"))

    # Loading

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        if self.frozen is not None:
            self.frozen.asked = dtype
        return dtype

    def update_weight_conversions(self, weight_conversions: list[Any], model: nn.Module) -> Any:
        """Rename nothing in our checkpoints: they have the names of tensors in memory."""
        return weight_conversions if self.frozen is None else []

    def get_new_dtype(self, converter: Any, param: Any, dtype: torch.dtype | None) -> None:
        """Take tensors as they lie on disk; each gets its dtype back after loading."""

    def param_needs_quantization(self, model: nn.Module, param_name: str, **kwargs: Any) -> bool:
        return self.frozen is None and is_quantized_on_load(model, param_name)

    def get_quantize_ops(self) -> QuantizeOnLoad:
        return QuantizeOnLoad()

    def _process_model_before_weight_loading(
        self,
        model: Any,
        checkpoint_files: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        _tie(model)
        if self.frozen is not None:
            outlines = self.quantization_config.outlines
            if outlines is None:
                outlines = Checkpoint(tuple(map(Path, checkpoint_files or ()))).outlines()
            self.frozen.lay_out(model, outlines)
            self.quantization_config.outlines = None
            return
        self.waiting = begin(model, self.quantization_config)

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        if self.frozen is None:
            finish(model, self.quantization_config, self.waiting)
        else:
            self.frozen.settle(model)
        return model

    # Saving

    def is_serializable(self) -> bool:
        return True

    def get_state_dict_and_metadata(self, model: Any) -> tuple[Any, dict[str, str]]:
        """What `save_pretrained` writes; it writes the config of the model after this."""
        if not any(isinstance(module, QModule) for module in model.modules()):
            self.remove_quantization_config(model)  # it was made float again
            return None, {}
        disk = OnDisk(model)
        tensors = disk.everything()
        said = {**described(model), "quant_method": METHOD}
        self.quantization_config = WorkbenchConfig(manifest=disk.manifest.model_dump(), **said)
        model.config.quantization_config = self.quantization_config
        model._weight_conversions = []  # names are those in memory
        return tensors, {}

    def _dequantize(self, model: Any, dtype: torch.dtype | None = None) -> Any:
        dequantize(model)
        return model if dtype is None else model.to(dtype)

    # Training

    @property
    def is_trainable(self) -> bool:
        return True

    @property
    def is_qat_trainable(self) -> bool:
        return True

    @property
    def is_compileable(self) -> bool:
        return True


def attach(model: Any) -> None:
    """Let `save_pretrained` of a model of transformers that was frozen here write our format."""
    from transformers import PreTrainedModel  # its module calls for us when it is imported

    if isinstance(model, PreTrainedModel) and getattr(model, "hf_quantizer", None) is None:
        model.hf_quantizer = WorkbenchQuantizer(WorkbenchConfig(), pre_quantized=False)  # type: ignore[assignment]


def mark(model: nn.Module, is_quantized: bool) -> None:
    """Set the flag that transformers sets on models that it loads quantized, or take it away.

    Some of them read a weight unless it is there, and call the layer if it is.
    """
    for module in model.modules():
        config = getattr(module, "config", None)
        if isinstance(config, PreTrainedConfig):
            vars(config).pop("_is_quantized", None)
            if is_quantized:
                config._is_quantized = True  # type: ignore[attr-defined]


def _tie(model: Any) -> None:
    """Share the parameters that transformers will tie after loading; we ask now which they are."""
    for target, source in model.all_tied_weights_keys.items():
        owner, _, last = target.rpartition(".")
        model.get_submodule(owner)._parameters[last] = model.get_parameter(source)
