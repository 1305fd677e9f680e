"""The engines that variants run in: each loads a folder as a module of keyword inputs."""

import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from workbench.bench.engines import quiet
from workbench.errors import WorkbenchError
from workbench.graph.compile import compile  # noqa: A004 - torch's own name
from workbench.models.load import load
from workbench.models.loaded import LoadedModel

ONNX = "model.onnx"
INPUTS = ("input_ids", "attention_mask")
OPSET = 17


@dataclass(frozen=True)
class Variant:
    """A model in a folder, in an engine; `padded` to the maximum length. May cross to a process.

    `parent` names the variant that it was made of, None for the first.
    """

    name: str
    step: str
    engine: str
    folder: Path
    parameters: int
    padded: bool = False
    parent: str | None = None

    def load(self) -> nn.Module:
        """The model, which computes with as many threads as torch does when it is loaded."""
        return engines[self.engine](self.folder)


def _torch(folder: Path) -> nn.Module:
    return load(folder).model


def _compiled(folder: Path) -> nn.Module:
    model = load(folder).model
    compile(model)
    return model


class OnnxModel(nn.Module):
    """A graph in ONNX Runtime, with all its graph optimisations, called as the torch model is."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        # Threads that spin on after a run would slow down whichever engine has the next turn.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(
            folder / ONNX, options, providers=["CPUExecutionProvider"]
        )
        self.names = {node.name for node in self.session.get_inputs()}

    def forward(self, **inputs: Tensor) -> Any:
        """The logits, as transformers' models have them in their output."""
        feed = {name: value.numpy() for name, value in inputs.items() if name in self.names}
        return SimpleNamespace(logits=torch.from_numpy(self.session.run(None, feed)[0]))


engines: Mapping[str, Callable[[Path], nn.Module]] = {
    "torch": _torch,
    "workbench": _torch,
    "workbench compiled": _compiled,
    "onnxruntime": OnnxModel,
}


def write_onnx(loaded: LoadedModel, folder: Path) -> None:
    """Write a float classifier as an int8 graph: weights per channel, activations as they come.

    Raises WorkbenchError where ONNX Runtime is missing.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise WorkbenchError(
            "the engine onnxruntime is not installed: run "
            "`pip install 'quantization-workbench[export]'`"
        ) from error
    batch = loaded.text_batches(["any few words", "and some others"])[0]
    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(made) / ONNX
        torch.onnx.export(
            _Logits(loaded.model).eval(),
            tuple(batch[name] for name in INPUTS),
            path,
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in INPUTS},
            dynamo=False,  # what quantize_dynamic knows best
            opset_version=OPSET,
        )
        with quiet():
            quantize_dynamic(path, folder / ONNX, per_channel=True, weight_type=QuantType.QInt8)


class _Logits(nn.Module):
    """A classifier with positional inputs and one output, as exporters like it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits
