"""OpenVINO's intermediate representation, converted from our ONNX."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.export.base import Job
from workbench.export.onnx import FILE, Onnx, write_graph
from workbench.export.quiet import in_private
from workbench.export.twins.weights import by_channel
from workbench.models.manifest import frozen_modules
from workbench.progress import track
from workbench.quant import QModule

GRAPH = "openvino_model.xml"
ALONG = ("config.json", "generation_config.json")  # that transformers writes beside its graph
REASON = 12  # words; OpenVINO's messages begin with its source files


class OpenVino(Onnx):
    """The same graph: QDQ becomes FakeQuantize over our range and int8 constants, none rounded.

    Weights of 4 bits take a byte each, in ONNX's own operators. What `Onnx` says of the key-value
    cache, and of opening the folder again, holds here too.
    """

    name = "openvino"
    what = "a graph for OpenVINO: float, and int8 and int4 with our scales"
    packages = ("openvino", "onnx", "onnxscript")
    install = "pip install 'quantization-workbench[export]' openvino"

    def write(self, job: Job, folder: Path) -> tuple[str, ...]:
        import openvino

        frozen = frozen_modules(job.model)
        with tempfile.TemporaryDirectory() as there:
            made = Path(there)

            def trace() -> None:
                write_graph(job, made, nbits=False)

            def convert() -> None:
                with in_private():
                    model = openvino.convert_model(made / FILE)
                    _refuse_what_does_not_compile(model, frozen)
                    openvino.save_model(model, folder / GRAPH, compress_to_fp16=False)
                    _read_again(folder / GRAPH)
                _describe(made, folder)

            for step in track((trace, convert), "converting for OpenVINO"):
                step()
        if job.tokenizer is not None:
            job.tokenizer.save_pretrained(folder)
        packed = any(m.weights is not None and m.weights.qtype.packed for m in frozen.values())
        return ("Weights of 4 bits take a byte each in this file.",) if packed else ()


def _describe(made: Path, folder: Path) -> None:
    """Write what transformers' exporter said of its ONNX graph, which holds of ours too."""
    for name in ALONG:
        if (made / name).is_file():
            shutil.copy(made / name, folder)
    manifest = made / "export.json"
    if not manifest.is_file():  # of a module that is not transformers'
        return
    said = json.loads(manifest.read_text(encoding="utf-8"))
    said["export_format"] = "openvino"
    [graph] = said["components"].values()
    graph["file"] = GRAPH
    (folder / manifest.name).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def _refuse_what_does_not_compile(model: Any, frozen: Mapping[str, QModule]) -> None:
    """Let the CPU plugin compile the converted `model`, which nothing but trying can foretell.

    OpenVINO 2026.4 stumbles over some weights in groups with a bias, depending on what is around.
    """
    import openvino

    try:
        openvino.Core().compile_model(model, "CPU")
    except RuntimeError as error:
        grouped = [name for name, module in frozen.items() if not by_channel(module)]
        advice = f"; give {', '.join(grouped)} one scale for each channel" if grouped else ""
        reason = " ".join(str(error).split()[-REASON:])
        raise WorkbenchError(
            f"OpenVINO converts this model but cannot compile it for the CPU, and nothing was "
            f"written: {reason}{advice}"
        ) from error


def _read_again(path: Path) -> None:
    """Raise OSError where not all was written: OpenVINO says nothing of a disk that is full."""
    import openvino

    try:
        openvino.Core().read_model(path)
    except RuntimeError as error:
        raise OSError("not all of it could be written; is the disk full?") from error
