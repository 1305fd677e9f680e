"""Models exported as graphs, which another engine computes."""

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import torch

from workbench.errors import WorkbenchError
from workbench.models.readers.base import Opened, has_tokenizer, model_class


class Exported:
    """Folders that `export` wrote for one engine, or transformers' own exporter did."""

    engine: ClassVar[str]
    graphs: ClassVar[str]  # how their files are called
    package: ClassVar[str]
    install: ClassVar[str]

    @classmethod
    def reads(cls, folder: Path) -> bool:
        return (folder / "export.json").is_file() and any(folder.glob(cls.graphs))

    @classmethod
    def open(cls, folder: Path, dtype: torch.dtype) -> Opened:
        del dtype  # the graph says which
        if importlib.util.find_spec(cls.package) is None:
            raise WorkbenchError(
                f"graphs for {cls.engine} need the package {cls.package}: run `{cls.install}`"
            )
        from transformers import AutoTokenizer
        from transformers.exporters.base import ExportedModel

        from workbench.models.engine_model import standing_for

        try:
            exported = ExportedModel.from_pretrained(
                folder, device="cpu", local_files_only=True, **cls.options()
            )
            _, kind = model_class(exported.config)
            tokenizer = AutoTokenizer.from_pretrained(folder) if has_tokenizer(folder) else None
        except Exception as error:  # protobuf and the engines have errors of their own
            raise WorkbenchError(
                f"the export for {cls.engine} in {folder} is damaged: {error}"
            ) from error
        note = f"Computed by {cls.engine} from a graph, in which nothing can be quantized any more."
        return Opened(standing_for(exported).eval(), tokenizer, kind, note)

    @staticmethod
    def options() -> dict[str, Any]:
        """What the engine is told: as many threads as torch has, and the arithmetic of the file."""
        return {}


class Onnx(Exported):
    """ONNX Runtime's."""

    engine, graphs, package = "ONNX Runtime", "*.onnx", "onnxruntime"
    install = "pip install 'quantization-workbench[export]'"

    @staticmethod
    def options() -> dict[str, Any]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        return {"session_options": options}


class OpenVino(Exported):
    """OpenVINO's, which left alone takes bfloat16 and rounds activations where that is faster."""

    engine, graphs, package = "OpenVINO", "openvino_*.xml", "openvino"
    install = "pip install openvino"

    @staticmethod
    def options() -> dict[str, Any]:
        exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
        return {"config": exact | {"INFERENCE_NUM_THREADS": torch.get_num_threads()}}


class ExecuTorch(Exported):
    """ExecuTorch's, whose programs have their kernels and memory planned."""

    engine, graphs, package = "ExecuTorch", "*.pte", "executorch"
    install = "pip install executorch"
