"""The kinds of checkpoint that can be opened, each asked in order whether a folder holds one."""

from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.models.readers.awq import Awq
from workbench.models.readers.base import Opened, Reader
from workbench.models.readers.compressed import Compressed
from workbench.models.readers.exported import ExecuTorch, Onnx, OpenVino
from workbench.models.readers.gguf import Gguf
from workbench.models.readers.gptq import Gptq
from workbench.models.readers.ours import Ours
from workbench.models.readers.plain import Plain
from workbench.models.readers.quanto import Quanto

readers: tuple[type[Reader], ...] = (
    Onnx,
    OpenVino,
    ExecuTorch,
    Ours,
    Quanto,
    Compressed,
    Gptq,
    Awq,
    Plain,
    Gguf,
)

__all__ = ["Opened", "Reader", "reader_for", "readers"]


def reader_for(folder: Path) -> type[Reader]:
    """The first reader that knows what `folder` holds; raises WorkbenchError where none does."""
    found = next((reader for reader in readers if reader.reads(folder)), None)
    if found is None:
        raise WorkbenchError(f"{folder} holds no config.json: it is no model folder")
    return found
