"""OpenVINO's intermediate representation, converted from our ONNX."""

import tempfile
from pathlib import Path

from workbench.export.base import Job
from workbench.export.onnx import FILE, Onnx, write_graph
from workbench.export.quiet import in_private
from workbench.models.manifest import frozen_modules
from workbench.progress import track


class OpenVino(Onnx):
    """The same graph: QDQ becomes FakeQuantize over our range and int8 constants, none rounded.

    Weights of 4 bits take a byte each, in ONNX's own operators.
    """

    name = "openvino"
    what = "a graph for OpenVINO: float, and int8 and int4 with our scales"
    packages = ("openvino", "onnx", "onnxscript")
    install = "pip install 'quantization-workbench[export]' openvino"

    def write(self, job: Job, folder: Path) -> tuple[str, ...]:
        import openvino

        with tempfile.TemporaryDirectory() as made:

            def trace() -> None:
                write_graph(job, Path(made), nbits=False)

            def convert() -> None:
                with in_private():
                    model = openvino.convert_model(Path(made) / FILE)
                    target = folder / "openvino_model.xml"
                    openvino.save_model(model, target, compress_to_fp16=False)

            for step in track((trace, convert), "converting for OpenVINO"):
                step()
        if hasattr(getattr(job.model, "config", None), "save_pretrained"):
            job.model.config.save_pretrained(folder)  # type: ignore[union-attr, operator]
        if job.tokenizer is not None:
            job.tokenizer.save_pretrained(folder)
        layers = frozen_modules(job.model).values()
        packed = any(m.weights is not None and m.weights.qtype.packed for m in layers)
        return ("Weights of 4 bits take a byte each in this file.",) if packed else ()
