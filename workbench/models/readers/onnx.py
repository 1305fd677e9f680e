"""Models exported to ONNX, which ONNX Runtime computes."""

import importlib.util
from pathlib import Path

import torch

from workbench.errors import WorkbenchError
from workbench.models.readers.base import Opened, has_tokenizer, model_class

NOTE = "Computed by ONNX Runtime from a graph, in which nothing can be quantized any more."


class Onnx:
    """Folders that `export` wrote as "onnx", or transformers' own exporter did."""

    @staticmethod
    def reads(folder: Path) -> bool:
        return (folder / "export.json").is_file() and any(folder.glob("*.onnx"))

    @staticmethod
    def open(folder: Path, dtype: torch.dtype) -> Opened:
        del dtype  # the graph says which
        if importlib.util.find_spec("onnxruntime") is None:
            raise WorkbenchError(
                "ONNX files need the package onnxruntime: "
                "run `pip install 'quantization-workbench[export]'`"
            )
        import onnxruntime
        from transformers import AutoTokenizer
        from transformers.exporters.base import ExportedModel

        from workbench.models.onnx_model import standing_for

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            exported = ExportedModel.from_pretrained(
                folder, device="cpu", local_files_only=True, session_options=options
            )
            _, kind = model_class(exported.config)
            tokenizer = AutoTokenizer.from_pretrained(folder) if has_tokenizer(folder) else None
        except Exception as error:  # protobuf and ONNX Runtime have errors of their own
            raise WorkbenchError(f"the ONNX export in {folder} is damaged: {error}") from error
        return Opened(standing_for(exported).eval(), tokenizer, kind, NOTE)
