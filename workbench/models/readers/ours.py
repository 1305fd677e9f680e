"""Checkpoints that `workbench.save`, or `save_pretrained` of a model of ours, wrote."""

from pathlib import Path

import torch

from workbench.errors import WorkbenchError
from workbench.models.checkpoint import Checkpoint
from workbench.models.formats import METHOD
from workbench.models.manifest import Manifest
from workbench.models.readers.base import Opened, float_config, from_transformers
from workbench.quant.dtypes import torch_dtype


class Ours:
    """Every tensor comes back bit for bit, in the dtype it had."""

    @staticmethod
    def reads(folder: Path) -> bool:
        return Manifest.read(folder) is not None

    @staticmethod
    def open(folder: Path, dtype: torch.dtype) -> Opened:
        del dtype  # the checkpoint says which
        manifest = Manifest.read(folder)
        assert manifest is not None
        if not (folder / "config.json").is_file():
            raise WorkbenchError(
                f"{folder} holds tensors but no config.json, so which model they belong to is not "
                "known: make the float model and call workbench.models.load_into(model, folder)"
            )
        Checkpoint.of(folder)
        config = float_config(folder)
        # Whichever method config.json names for other engines
        config.quantization_config = {"quant_method": METHOD, "manifest": manifest.model_dump()}
        main = torch_dtype(manifest.dtype)
        opened = from_transformers(str(folder), folder.name, main, config, exact=True)
        opened.note = manifest.note
        if not manifest.quantization_map:
            opened.model.hf_quantizer.remove_quantization_config(opened.model)  # type: ignore[union-attr, operator]
        return opened
