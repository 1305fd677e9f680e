"""ONNX, for ONNX Runtime: float, QDQ int8 with our scales, and MatMulNBits."""

from collections.abc import Mapping
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.export.base import Exporter, Job
from workbench.export.quiet import in_private
from workbench.export.twins import check_layer, traceable
from workbench.models.manifest import frozen_modules
from workbench.progress import track

FILE = "model.onnx"
BEFORE, MORE = 3, 5  # tokens; sizes that no other dimension has
EXPORTERS = find_spec("transformers.exporters") is not None  # not before transformers 5.20 or so


class Onnx(Exporter):
    """A graph of any batch and length, with the key-value cache of a language model.

    What transformers exports, `workbench.load` opens again: a model that ONNX Runtime computes.
    """

    name = "onnx"
    what = "a graph for ONNX Runtime: float, int8 as QDQ or MatMulInteger, int4 as MatMulNBits"
    packages = ("onnx", "onnxruntime", "onnxscript")
    install = "pip install 'quantization-workbench[export]'"

    def check(self, job: Job) -> None:
        for name, module in frozen_modules(job.model).items():
            check_layer(name, module)
        example(job)

    def write(self, job: Job, folder: Path) -> tuple[str, ...]:
        for step in track((write_graph,), "tracing for ONNX"):
            step(job, folder)
        if job.tokenizer is not None:
            job.tokenizer.save_pretrained(folder)
        return ()


def example(job: Job) -> dict[str, Tensor]:
    """The inputs to trace with; raises WorkbenchError where none were given nor can be made up."""
    if job.example is not None:
        return dict(job.example)
    if getattr(job.model, "main_input_name", None) != "input_ids":
        raise WorkbenchError(
            f"a {type(job.model).__name__} is traced with inputs that only you know: give "
            "example={name: tensor, ...}, as the model is called"
        )
    ids = torch.ones(2, 8, dtype=torch.int64)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def write_graph(job: Job, folder: Path, *, nbits: bool = True) -> None:
    """Trace the model into `folder`, with MatMulNBits or without.

    Raises WorkbenchError where the exporter cannot follow the model.
    """
    try:
        with torch.no_grad(), in_private():
            inputs = _going_on(job) or example(job)
            model = traceable(job.model, nbits)
            if hasattr(getattr(model, "config", None), "to_dict"):
                _by_transformers(model, inputs, folder)
            else:
                _by_torch(model, inputs, folder)
    except (WorkbenchError, OSError):
        raise
    except Exception as error:  # the exporter's, whatever it stumbled over
        raise WorkbenchError(
            f"the ONNX exporter cannot follow {type(job.model).__name__}, and nothing was "
            f"written: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
        ) from error


def _going_on(job: Job) -> dict[str, Any] | None:
    """The inputs of a call in the middle of a text: tokens, and the cache of those before.

    The very same graph begins a text, with a cache of none. None for a model that keeps no
    key-value cache, or needs more than token ids.
    """
    from transformers import DynamicCache

    model: Any = job.model
    generates = getattr(model, "can_generate", lambda: False)()
    needs_more = not set(job.example or ()) <= {"input_ids", "attention_mask"}
    if not generates or needs_more or not EXPORTERS:
        return None
    before = model(input_ids=torch.ones(2, BEFORE, dtype=torch.int64), use_cache=True)
    if not isinstance(getattr(before, "past_key_values", None), DynamicCache):
        return None
    inputs = {
        "input_ids": torch.ones(2, MORE, dtype=torch.int64),
        "attention_mask": torch.ones(2, BEFORE + MORE, dtype=torch.int64),
        "past_key_values": before.past_key_values,
    }
    if "position_ids" in signature(model.forward).parameters:
        inputs["position_ids"] = torch.arange(BEFORE, BEFORE + MORE).repeat(2, 1)
    return inputs


def _by_transformers(model: Any, inputs: Mapping[str, Any], folder: Path) -> None:
    """By transformers' own exporter, which knows what its models need, where it has one."""
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = "past_key_values" in inputs
    if not EXPORTERS:
        _by_torch(model, inputs, folder)
        return
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    exported = OnnxExporter().export(model, dict(inputs), config=OnnxConfig(dynamic=True))
    exported.generation_config = getattr(model, "generation_config", None)
    config: Any = exported.config
    config.architectures = [type(model).__name__]
    if hasattr(config, "quantization_config"):  # the graph has it all
        del config.quantization_config
    exported.save_pretrained(folder)


def _by_torch(model: nn.Module, inputs: Mapping[str, Any], folder: Path) -> None:
    """With every dimension of the inputs dynamic that the model leaves so."""
    auto = torch.export.Dim.AUTO
    shapes = {name: dict.fromkeys(range(value.dim()), auto) for name, value in inputs.items()}
    program = torch.onnx.export(
        model, kwargs=dict(inputs), dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    assert program is not None
    program.save(folder / FILE, external_data=True)
