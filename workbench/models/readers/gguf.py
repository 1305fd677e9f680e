"""GGUF files, as llama.cpp writes them, dequantized by transformers."""

import importlib.util
from pathlib import Path
from typing import Any

import torch

from workbench.errors import WorkbenchError
from workbench.models.hub import explained
from workbench.models.readers.base import Opened, refuse_misfits


class Gguf:
    """Every block becomes floats: their scales have scales, which no module of ours holds."""

    @staticmethod
    def reads(folder: Path) -> bool:
        return len(list(folder.glob("*.gguf"))) == 1

    @staticmethod
    def open(folder: Path, dtype: torch.dtype) -> Opened:
        if importlib.util.find_spec("gguf") is None:
            raise WorkbenchError(
                "GGUF files need the package gguf: run `pip install 'quantization-workbench[gguf]'`"
            )
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        file = next(folder.glob("*.gguf")).name
        try:
            found: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                gguf_file=file,
                quantization_config=GgufConfig(dequantize=True),
                dtype=dtype,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, KeyError, NotImplementedError) as error:
            raise WorkbenchError(explained(f"{folder.name}/{file}", error)) from error
        model, info = found
        refuse_misfits(file, info, exact=False)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        except (OSError, ValueError, RuntimeError, KeyError, NotImplementedError):
            tokenizer = None  # the file may hold weights alone
        return Opened(model.eval(), tokenizer, "causal-lm", "Dequantized from GGUF.")
