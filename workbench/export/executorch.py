"""ExecuTorch programs, for phones and small devices, by transformers' own exporter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.export.base import Exporter, Job, refuse
from workbench.export.onnx import example
from workbench.export.quiet import in_private
from workbench.models.loaded import share
from workbench.models.manifest import frozen_modules
from workbench.progress import track

LONGEST = 1024  # of a dimension, where the model does not say: memory is planned for it


class ExecuTorch(Exporter):
    """Float models in XNNPACK's kernels: it takes integers from a quantizer of its own alone."""

    name = "executorch"
    what = "a program for ExecuTorch on phones and small devices: float models of transformers"
    packages = ("executorch",)
    install = "pip install executorch"

    def check(self, job: Job) -> None:
        if not hasattr(getattr(job.model, "config", None), "to_dict"):
            raise WorkbenchError(
                f"transformers' exporter writes for ExecuTorch, and {type(job.model).__name__} is "
                "none of its models: export it as onnx or openvino"
            )
        for name in frozen_modules(job.model):
            raise refuse(
                name,
                "is quantized",
                "ExecuTorch's kernels take integers from a quantizer of its own alone",
                "export the float model, or this one as onnx or openvino",
            )
        example(job)

    def write(self, job: Job, folder: Path) -> tuple[str, ...]:
        for step in track((_write_program,), "tracing for ExecuTorch"):
            step(job, folder)
        if job.tokenizer is not None:
            job.tokenizer.save_pretrained(folder)
        return ()


def _write_program(job: Job, folder: Path) -> None:
    from transformers.exporters.configs import ExecutorchConfig
    from transformers.exporters.exporter_executorch import ExecutorchExporter

    model: Any = share(job.model).eval()
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    inputs: dict[str, Any] = example(job)
    longest = getattr(model.config, "max_position_embeddings", LONGEST)
    config = ExecutorchConfig(dynamic=True, dynamic_shapes=_shapes(inputs, longest))
    try:
        with torch.no_grad(), in_private():
            exported = ExecutorchExporter().export(model, inputs, config=config)
            said: Any = exported.config
            said.architectures = [type(model).__name__]
            exported.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # the exporter's, whatever it stumbled over
        raise WorkbenchError(
            f"the ExecuTorch exporter cannot follow {type(model).__name__}, and nothing was "
            f"written: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
        ) from error


def _shapes(inputs: Mapping[str, Tensor], longest: int) -> dict[str, Any]:
    """Any number of rows, and of tokens where the inputs are tokens."""
    rows = torch.export.Dim("rows", min=1, max=LONGEST)
    tokens = torch.export.Dim("tokens", min=1, max=longest)
    return {
        name: {0: rows, 1: tokens}
        if value.dim() == 2 and not value.is_floating_point()
        else {0: rows}
        for name, value in inputs.items()
    }
