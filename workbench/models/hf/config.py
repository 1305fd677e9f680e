"""What `from_pretrained(quantization_config=...)` takes, and what config.json keeps."""

from typing import Any

from torch import Tensor
from transformers.utils.quantization_config import CompressedTensorsConfig, QuantizationConfigMixin

from workbench.models.formats import METHOD
from workbench.quant import QuantArgs, qtype
from workbench.quant.args import activation_args, weight_args
from workbench.quant.optimizers import optimizer_named

ArgsLike = QuantArgs | qtype | str | dict[str, Any] | None


class WorkbenchConfig(QuantizationConfigMixin):
    """How to quantize a model as transformers loads it: the arguments of `workbench.quantize`.

    `optimizer` is given by name, so that it can be written down.
    With weights alone, or with activations that are `dynamic`, the model comes out frozen. Static
    activations, which is what a bare "int8" means, have to be calibrated first: the model comes
    out unfrozen, to be run in `workbench.Calibration` and then given to `workbench.freeze`.
    `manifest`, in saved checkpoints, describes what was made (`workbench.models.manifest`);
    `outlines`, never saved, are the tensors on the meta device where no file of ours has them.
    """

    def __init__(
        self,
        weights: ArgsLike = "int8",
        activations: ArgsLike = None,
        include: str | list[str] | None = None,
        exclude: str | list[str] | None = None,
        optimizer: str | None = None,
        outputs: ArgsLike = None,
        manifest: dict[str, Any] | None = None,
        outlines: dict[str, Tensor] | None = None,
        **said: Any,
    ) -> None:
        said.pop("quant_method", None)
        self.quant_method: Any = METHOD
        self.weights = weight_args(_args(weights))
        self.activations = activation_args(_args(activations))
        self.include = include
        self.exclude = exclude
        if optimizer is not None:
            optimizer_named(optimizer)  # refuses what is unknown
        self.optimizer = optimizer
        self.outputs = activation_args(_args(outputs))
        self.manifest = manifest
        self.outlines = outlines
        self.said = said  # what else a checkpoint says, for other engines to read

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON has them."""
        if self.manifest is not None:
            return {**self.said, "quant_method": self.quant_method, "manifest": self.manifest}
        return {
            "quant_method": self.quant_method,
            "weights": self.weights and self.weights.model_dump(),
            "activations": self.activations and self.activations.model_dump(),
            "include": self.include,
            "exclude": self.exclude,
            "optimizer": self.optimizer,
            "outputs": self.outputs and self.outputs.model_dump(),
        }


class ClaimedConfig(CompressedTensorsConfig):
    """Stands for compressed-tensors: what we wrote we load, bit for bit; the rest is its own."""

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        owner: Any = WorkbenchConfig if "manifest" in config_dict else CompressedTensorsConfig
        return owner.from_dict(config_dict, *args, **kwargs)


def _args(value: ArgsLike) -> Any:
    return QuantArgs.model_validate(value) if isinstance(value, dict) else value
