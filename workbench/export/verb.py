"""The verb export."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.export.base import Exported, Exporter, Job
from workbench.export.compressed import CompressedTensors
from workbench.export.executorch import ExecuTorch
from workbench.export.gguf import Gguf
from workbench.export.onnx import Onnx
from workbench.export.openvino import OpenVino
from workbench.models.atomic import replacing
from workbench.models.manifest import frozen_modules

exporters: dict[str, Exporter] = {
    one.name: one for one in (CompressedTensors(), Gguf(), Onnx(), OpenVino(), ExecuTorch())
}


def export(
    model: nn.Module,
    folder: Path | str,
    *,
    format: str,  # noqa: A002 - the field's own name
    tokenizer: Any = None,
    example: Mapping[str, Tensor] | None = None,
) -> Exported:
    """Write `model`, float or frozen, to `folder` as `format`, one of `exporters`.

    `tokenizer` goes along as far as the format has a place for it; `example` are keyword inputs,
    for formats that are traced. The folder is replaced in one step. Raises WorkbenchError, nothing
    written and the old content untouched, where the format is unknown, its packages are missing, a
    quantized module is not frozen, or a layer breaks a rule of the format, which is then named.
    """
    exporter = exporter_named(format)
    frozen_modules(model)  # refuses what is not frozen
    job = Job(model, tokenizer, example)
    exporter.check(job)
    folder = Path(folder).expanduser()
    with replacing(folder) as made:
        notes = exporter.write(job, made)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Exported(folder, format, size, notes)


def exporter_named(name: str) -> Exporter:
    """The exporter of a format; raises WorkbenchError where there is none, or packages lack."""
    exporter = exporters.get(name)
    if exporter is None:
        raise WorkbenchError(f"format={name!r} is unknown; allowed: {', '.join(exporters)}")
    missing = [package for package in exporter.packages if find_spec(package) is None]
    if missing:
        raise WorkbenchError(f"{name} needs {', '.join(missing)}: run `{exporter.install}`")
    return exporter
